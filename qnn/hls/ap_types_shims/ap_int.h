// The open ap_types, and the type `half`, which Vitis HLS declares here and FINN and finn-hlslib name.
#pragma once

#include "ap_types/ap_int.h"

#include <cstdint>

class half {
    std::uint16_t bits;
};
