// How FINN says what a stream's lanes are: Slice<T> for lanes of type T, Identity for weights as they are.
#pragma once

template<typename T>
struct Slice {
    using lane = T;
};

struct Identity {};
