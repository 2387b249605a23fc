// The suite's own functional stand-in for finn-hlslib: the kernels that FINN's HLS nodes call, and nothing more.
//
// Written against what FINN (finn-plus 1.6.1) generates for cppsim: custom_op/fpgadataflow/hls/*_hls.py and
// templates/npy2stream. It computes the integers that finn-hlslib computes; it cannot be synthesised.
#pragma once

#include "ap_int.h"
#include "hls_stream.h"
#include "vvau.hpp"
