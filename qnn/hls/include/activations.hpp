// From an accumulator to the code that leaves a layer: ActVal plus the number of thresholds that it has reached.
#pragma once

#include <cstdint>

#include "ap_int.h"
#include "hls_stream.h"
#include "interpret.hpp"

namespace comp {

template<typename A, typename B>
struct less_equal {
    QNN_INLINE bool operator()(A const a, B const b) const { return a <= b; }
};

}  // namespace comp

// `accumulator` is the type that a matrix unit sums up in: it wraps around there.

template<typename T>
struct PassThroughActivation {
    using accumulator = T;
    QNN_INLINE T activate(unsigned, unsigned, T const accumulator) const { return accumulator; }
};

// An aggregate: FINN writes the thresholds as its initialiser.
template<unsigned NF, unsigned PE, unsigned NumTH, typename TA, typename TR, int ActVal, typename Compare>
struct ThresholdsActivation {
    using accumulator = TA;
    TA m_thresholds[PE][NF][NumTH];

    QNN_INLINE TR activate(unsigned const nf, unsigned const pe, TA const accumulator) const {
        int code = ActVal;
        for (unsigned i = 0; i < NumTH; i++) code += Compare()(m_thresholds[pe][nf][i], accumulator);
        return TR(code);
    }
};

// The word that leaves a unit of PE lanes: each lane's sum, activated.
template<typename TO, typename Result, unsigned PE, typename TA>
QNN_INLINE TO activated(TA const &activation, unsigned const nf, std::int64_t const (&sums)[PE]) {
    TO results;
    for (unsigned pe = 0; pe < PE; pe++) {
        Result const result(activation.activate(nf, pe, typename TA::accumulator(sums[pe])) + 0);
        results.template set_lane<Result::width>(pe, result);
    }
    return results;
}

// Thresholds come as a stream, those of PE channels in a word, over and over. A value is compared in the thresholds'
// type TT, as in finn-hlslib: FINN has to make it as wide as the values.
template<unsigned ImgDim, unsigned NumChannels, unsigned PE, typename TSrcI, typename TDstI, int ActVal, typename TT,
         unsigned NumSteps, typename TI, typename TO>
void Thresholding_Stream_Batch(hls::stream<TI> &in, hls::stream<TO> &out,
                               hls::stream<ap_uint<int(PE * NumSteps * TT::width)>> &thresholds, int const reps) {
    using Source = typename TSrcI::lane;
    using Code = typename TDstI::lane;
    for (unsigned i = 0; i < reps * ImgDim * (NumChannels / PE); i++) {
        auto const steps = thresholds.read();
        TI const values = in.read();
        TO codes;
        for (unsigned pe = 0; pe < PE; pe++) {
            TT const value(Source(values.template lane<Source::width>(pe)) + 0);
            int code = ActVal;
            for (unsigned n = 0; n < NumSteps; n++) code += TT(steps.template lane<TT::width>(pe * NumSteps + n)) <= value;
            codes.template set_lane<Code::width>(pe, code);
        }
        out.write(codes);
    }
}
