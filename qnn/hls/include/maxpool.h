// Top-1, or top-k, of the last layer's accumulators. (FINN includes its finn-hlslib under this name.)
#pragma once

#include <algorithm>
#include <vector>

#include "ap_int.h"
#include "hls_stream.h"

// Labels of the NumTop largest of NumClasses values, the largest first; of equal ones the first.
template<unsigned NumClasses, unsigned PECount, unsigned NumTop, typename In_T, typename Out_T>
void LabelSelect_Batch(hls::stream<ap_uint<int(PECount * In_T::width)>> &in, hls::stream<Out_T> &out,
                       unsigned const reps) {
    for (unsigned rep = 0; rep < reps; rep++) {
        std::vector<In_T> values;
        std::vector<unsigned> labels;
        for (unsigned block = 0; block < NumClasses / PECount; block++) {
            auto const word = in.read();
            for (unsigned pe = 0; pe < PECount; pe++) {
                labels.push_back(values.size());
                values.push_back(In_T(word.template lane<In_T::width>(pe)));
            }
        }
        std::stable_sort(labels.begin(), labels.end(), [&](unsigned a, unsigned b) { return values[a] > values[b]; });
        for (unsigned k = 0; k < NumTop; k++) out.write(Out_T(labels[k]));
    }
}
