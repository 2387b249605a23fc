// The vector-vector unit of a depthwise convolution: each channel's window times the channel's own weights, summed up,
// then activated.
#pragma once

#include <cstdint>

#include "activations.hpp"
#include "ap_int.h"
#include "hls_stream.h"
#include "interpret.hpp"

// `in` brings, for each group of PE channels, Kernel words of one place of the window each; `weights` brings as many
// words, for each window anew.
template<unsigned Channels, unsigned Kernel, unsigned SIMD, unsigned PE, unsigned MMV, typename TSrcI, typename TDstI,
         typename TWeightI, typename TW, typename TI, typename TO, typename TA, typename R>
void Vector_Vector_Activate_Stream_Batch(hls::stream<TI> &in, hls::stream<TO> &out,
                                         hls::stream<ap_uint<int(PE * SIMD * TW::width)>> &weights,
                                         TA const &activation, int const reps, R const &) {
    static_assert(SIMD == 1 && MMV == 1, "one place of one window at a time");
    using Source = typename TSrcI::lane;
    using Result = typename TDstI::lane;
    using Weight = typename TWeightI::template weight<TW>;
    for (int rep = 0; rep < reps; rep++) {
        for (unsigned nf = 0; nf < Channels / PE; nf++) {
            std::int64_t sums[PE] = {};
            for (unsigned place = 0; place < Kernel; place++) {
                TI const inputs = in.read();
                auto const word = weights.read();
                for (unsigned pe = 0; pe < PE; pe++) {
                    Weight const weight(word.template lane<TW::width>(pe));
                    sums[pe] += product<TSrcI>(weight, Source(inputs.template lane<Source::width>(pe)));
                }
            }
            out.write(activated<TO, Result>(activation, nf, sums));
        }
    }
}
