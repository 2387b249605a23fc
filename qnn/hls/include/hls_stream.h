// The FIFO between two functions: unbounded, since nothing runs at once here.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "ap_int.h"

namespace hls {

template<typename T>
class stream {
    std::string name;
    std::vector<T> words;
    std::size_t next = 0;

public:
    explicit stream(char const *const name = "") : name(name) {}

    QNN_INLINE void write(T const &word) { words.push_back(word); }
    QNN_INLINE T read() {
        if (empty()) throw std::runtime_error("read from the empty stream " + name);
        return words[next++];
    }
    QNN_INLINE bool empty() const { return next == words.size(); }

    QNN_INLINE void operator<<(T const &word) { write(word); }
    QNN_INLINE void operator>>(T &word) { word = read(); }
};

}  // namespace hls
