// The AXI stream with side channels that finn-hlslib's DMA functions name; no node of this suite calls them.
#pragma once

template<int D, int U, int TI, int TD>
class qdma_axis;
