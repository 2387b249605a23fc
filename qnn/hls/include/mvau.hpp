// The matrix-vector unit: codes of a layer's inputs times its weights, summed up, then activated.
#pragma once

#include <cstdint>

#include "activations.hpp"
#include "ap_int.h"
#include "hls_stream.h"
#include "interpret.hpp"

// `in` brings MatrixW / SIMD words a vector; `weights` brings, for each vector anew, for each group of PE outputs and
// each group of SIMD inputs a word whose lane pe * SIMD + simd is one weight.
template<unsigned MatrixW, unsigned MatrixH, unsigned SIMD, unsigned PE, typename TSrcI, typename TDstI,
         typename TWeightI, typename TW, typename TI, typename TO, typename TA, typename R>
void Matrix_Vector_Activate_Stream_Batch(hls::stream<TI> &in, hls::stream<TO> &out,
                                         hls::stream<ap_uint<int(PE * SIMD * TW::width)>> &weights,
                                         TA const &activation, int const reps, R const &) {
    using Source = typename TSrcI::lane;
    using Result = typename TDstI::lane;
    using Weight = typename TWeightI::template weight<TW>;
    static std::int64_t inputs[MatrixW];
    for (int rep = 0; rep < reps; rep++) {
        for (unsigned sf = 0; sf < MatrixW / SIMD; sf++) {
            TI const word = in.read();
            for (unsigned simd = 0; simd < SIMD; simd++) {
                inputs[sf * SIMD + simd] = Source(word.template lane<Source::width>(simd));
            }
        }
        for (unsigned nf = 0; nf < MatrixH / PE; nf++) {
            std::int64_t sums[PE] = {};
            for (unsigned sf = 0; sf < MatrixW / SIMD; sf++) {
                auto const word = weights.read();
                for (unsigned pe = 0; pe < PE; pe++) {
                    for (unsigned simd = 0; simd < SIMD; simd++) {
                        Weight const weight(word.template lane<TW::width>(pe * SIMD + simd));
                        sums[pe] += product<TSrcI>(weight, inputs[sf * SIMD + simd]);
                    }
                }
            }
            out.write(activated<TO, Result>(activation, nf, sums));
        }
    }
}
