// How FINN says what a stream's lanes are: Slice<T> for lanes of type T, Identity for weights as they are, and Recast
// for lanes of one bit: Recast<Binary> stands for -1 and 1, Recast<XnorMul> for bits whose product is their XNOR.
#pragma once

#include <cstdint>

#include "ap_int.h"

template<typename T>
struct Slice {
    using lane = T;
    static constexpr bool xnor = false;
};

struct Binary {};
struct XnorMul {};

// A lane of one bit that is -1 or 1.
struct Bipolar {
    static constexpr int width = 1;
    std::int64_t value;
    explicit constexpr Bipolar(std::uint64_t const bit) : value(bit ? 1 : -1) {}
    constexpr operator std::int64_t() const { return value; }
};

template<typename T>
struct Recast;

template<>
struct Recast<Binary> {
    using lane = Bipolar;
    static constexpr bool xnor = false;
    template<typename>
    using weight = Bipolar;
};

// A lane of one bit that is 0 or 1.
struct Bit {
    static constexpr int width = 1;
    std::int64_t value;
    explicit constexpr Bit(std::uint64_t const bit) : value(bit ? 1 : 0) {}
    constexpr operator std::int64_t() const { return value; }
};

template<>
struct Recast<XnorMul> {
    using lane = Bit;
    static constexpr bool xnor = true;
};

struct Identity {
    template<typename T>
    using weight = T;
};

template<typename TSrcI, typename Weight>
QNN_INLINE std::int64_t product(Weight const weight, std::int64_t const input) {
    return TSrcI::xnor ? std::int64_t(weight == input) : weight * input;
}

// What multiplies on the FPGA; the products are the same.
struct ap_resource_dflt {};
struct ap_resource_lut {};
struct ap_resource_dsp {};
