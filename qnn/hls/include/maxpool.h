// Top-1, or top-k, of the last layer's accumulators. (FINN includes its finn-hlslib under this name.)
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ap_int.h"
#include "hls_stream.h"

// Labels of the NumTop largest of NumClasses values, the largest first; of equal ones the first. As in finn-hlslib each
// place starts with label 0 and the type's lowest value, which only a larger one takes: a class of that value is never
// labelled, and what is left over stays 0.
template<unsigned NumClasses, unsigned PECount, unsigned NumTop, typename In_T, typename Out_T>
void LabelSelect_Batch(hls::stream<ap_uint<int(PECount * In_T::width)>> &in, hls::stream<Out_T> &out,
                       unsigned const reps) {
    for (unsigned rep = 0; rep < reps; rep++) {
        In_T const lowest(In_T(-1) < 0 ? std::uint64_t(1) << (In_T::width - 1) : 0);
        std::vector<In_T> values;
        std::vector<unsigned> labels;
        for (unsigned block = 0; block < NumClasses / PECount; block++) {
            auto const word = in.read();
            for (unsigned pe = 0; pe < PECount; pe++) {
                In_T const value(word.template lane<In_T::width>(pe));
                if (value > lowest) labels.push_back(values.size());
                values.push_back(value);
            }
        }
        std::stable_sort(labels.begin(), labels.end(), [&](unsigned a, unsigned b) { return values[a] > values[b]; });
        labels.resize(NumTop);
        for (unsigned const label : labels) out.write(Out_T(label));
    }
}
