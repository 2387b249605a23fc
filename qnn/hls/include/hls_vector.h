// FINN's npy2vectorstream.hpp names hls::vector; the nodes of this library's networks pack their lanes into ap_uint.
#pragma once

#include <cstddef>

namespace hls {

template<typename T, std::size_t N>
class vector;

}  // namespace hls
