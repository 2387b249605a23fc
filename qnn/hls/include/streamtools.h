// Data-width conversion: the same bits in words of another width.
#pragma once

#include "ap_int.h"
#include "hls_stream.h"

// The lowest bits are the first. One width is a multiple of the other; FINN takes two steps for others.
template<unsigned InWidth, unsigned OutWidth, unsigned NumInWords>
void StreamingDataWidthConverter_Batch(hls::stream<ap_uint<int(InWidth)>> &in, hls::stream<ap_uint<int(OutWidth)>> &out,
                                       unsigned const reps) {
    static_assert(InWidth % OutWidth == 0 || OutWidth % InWidth == 0, "no width is a multiple of the other");
    ap_uint<int(OutWidth)> word;
    unsigned filled = 0;
    for (unsigned i = 0; i < reps * NumInWords; i++) {
        auto const read = in.read();
        for (unsigned bit = 0; bit < InWidth; bit++) {
            word.template set_lane<1>(filled, read.template lane<1>(bit));
            if (++filled == OutWidth) {
                out.write(word);
                word = {};
                filled = 0;
            }
        }
    }
}
