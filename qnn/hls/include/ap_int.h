// Integers of W bits, as far as the C++ that FINN generates for cppsim uses them.
//
// ap_int<W>, ap_uint<W>: a number of up to 64 bits that wraps around, as hardware does.
// ap_uint<W> of any width: a word of a stream, of which lanes are read and written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

// FINN compiles with -fno-inline, which makes each access to a lane a call; this attribute alone overrules it.
#define QNN_INLINE [[gnu::always_inline]] inline

// FINN's cnpy.h names it; networks of integers never use it.
struct half;

template<int W>
class ap_uint {
    static constexpr int WORDS = (W + 63) / 64;
    std::uint64_t words[WORDS] = {};  // the lowest first; bits from W on are 0

    template<int BITS>
    static constexpr std::uint64_t mask = ~std::uint64_t(0) >> (64 - BITS);

public:
    static constexpr int width = W;

    constexpr ap_uint() = default;

    template<typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>>
    QNN_INLINE constexpr ap_uint(T const value) {
        static_assert(W <= 64, "wider words hold lanes, not a number");
        words[0] = static_cast<std::uint64_t>(static_cast<std::int64_t>(value)) & mask<W>;
    }

    QNN_INLINE constexpr operator std::uint64_t() const {
        static_assert(W <= 64, "wider words hold lanes, not a number");
        return words[0];
    }

    // Lane `index` of lanes of BITS bits, counted from the lowest bits.
    template<int BITS>
    QNN_INLINE std::uint64_t lane(std::size_t const index) const {
        static_assert(BITS <= 64, "a lane is one number");
        std::size_t const low = index * BITS, word = low / 64, shift = low % 64;
        std::uint64_t value = words[word] >> shift;
        if (shift + BITS > 64) value |= words[word + 1] << (64 - shift);
        return value & mask<BITS>;
    }

    // Sets a lane that is still 0.
    template<int BITS>
    QNN_INLINE void set_lane(std::size_t const index, std::uint64_t const value) {
        static_assert(BITS <= 64, "a lane is one number");
        std::size_t const low = index * BITS, word = low / 64, shift = low % 64;
        std::uint64_t const bits = value & mask<BITS>;
        words[word] |= bits << shift;
        if (shift + BITS > 64) words[word + 1] |= bits >> (64 - shift);
    }
};

template<int W>
class ap_int {
    static_assert(W <= 64, "a number has up to 64 bits");
    std::int64_t value = 0;

public:
    static constexpr int width = W;

    constexpr ap_int() = default;

    template<typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>>
    QNN_INLINE constexpr ap_int(T const number)
        : value(static_cast<std::int64_t>(static_cast<std::uint64_t>(static_cast<std::int64_t>(number)) << (64 - W)) >> (64 - W)) {}

    QNN_INLINE constexpr operator std::int64_t() const { return value; }
};
