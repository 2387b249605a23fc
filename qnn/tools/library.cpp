// A Verilated module as a shared library: its ports by number, and a loop that runs streams through it.
//
// qnn/tools/library.py writes module.h, which knows the module: kDescription, kMemories, kPorts and port(). A port's
// bytes are its value, least significant byte first, since Verilator keeps up to 64 bits as an integer and more as
// 32-bit words, least significant first, and the host is little-endian.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "Vtop.h"
#include "module.h"
#include "verilated.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Model {
    VerilatedContext context;
    Vtop top{&context};
    void* ports[kPorts];

    Model() {
        for (int k = 0; k < kPorts; ++k) ports[k] = port(top, k);
    }
    void put(int k, uint8_t bit) { *static_cast<uint8_t*>(ports[k]) = bit; }
    bool get(int k) const { return *static_cast<const uint8_t*>(ports[k]) & 1; }
};

std::string missing_memory;  // of the model that is opened

}  // namespace

// $readmemh opens files by name. Their contents are part of the library, so that it is one file that needs no other;
// the linker sends Verilator's calls here (--wrap=fopen).
extern "C" std::FILE* __real_fopen(const char* path, const char* mode);
extern "C" std::FILE* __wrap_fopen(const char* path, const char* mode) {
    for (const auto& memory : kMemories) {
        if (memory.name && std::strcmp(memory.name, path) == 0) {
            return fmemopen(const_cast<char*>(memory.content), std::strlen(memory.content), "r");
        }
    }
    if (mode[0] == 'r') missing_memory = path;
    return __real_fopen(path, mode);
}

// JSON: see Library in library.py.
EXPORT const char* qnn_description() { return kDescription; }

// A model whose initial blocks have run; null, with the file's name in qnn_missing(), where a memory has no content.
EXPORT Model* qnn_open() {
    missing_memory.clear();
    Model* model = new Model;
    model->top.eval();
    if (missing_memory.empty()) return model;
    delete model;
    return nullptr;
}
EXPORT const char* qnn_missing() { return missing_memory.c_str(); }

EXPORT void qnn_close(Model* model) {
    model->top.final();
    delete model;
}

EXPORT void* qnn_port(Model* model, int k) { return model->ports[k]; }

EXPORT void qnn_eval(Model* model) { model->top.eval(); }

// A stream's ports and beats; library.py declares the same struct.
struct Stream {
    int32_t valid, ready, data;  // numbers of ports
    int32_t bytes;               // of a beat
    int64_t beats;               // to give or to collect
    uint8_t* content;            // [beats, bytes]
    int64_t done;                // beats handed over
};

// Cycles until all beats of all streams are handed over, or the negative number of cycles after which an output had
// given none for `patience` cycles. clock2x is -1 where there is none.
//
// Cycle by cycle this is what FINN's SimEngine does with an InputStreamer, an OutputCollector and a Watchdog for each
// stream (finn_xsi/sim_engine.py): what is decided from the values before the edge is driven after it, the first cycle
// only raises valid and ready, and the last one only finds that nothing is left.
EXPORT int64_t qnn_stream(Model* model, int clock, int clock2x, Stream* inputs, int input_count, Stream* outputs, int output_count, int64_t patience) {
    struct Update {
        int port;
        const uint8_t* bytes;
        int count;
    };
    static const uint8_t kOne = 1;
    static const std::vector<uint8_t> kZeros(1 << 16);
    static const uint8_t* const kZero = kZeros.data();
    std::vector<bool> fed(input_count), collected(output_count);
    std::vector<int64_t> offered(input_count), idle(output_count);
    std::vector<Update> updates;
    Vtop& top = model->top;
    int64_t cycles = 0;
    for (int unfinished = input_count + output_count; unfinished;) {
        for (int64_t waited : idle) {
            if (waited >= patience) return -cycles;
        }
        ++cycles;
        updates.clear();
        for (int k = 0; k < input_count; ++k) {
            Stream& stream = inputs[k];
            if (fed[k]) continue;
            const bool valid = model->get(stream.valid);
            if (valid && !model->get(stream.ready)) continue;
            stream.done += valid;
            if (offered[k] < stream.beats) {
                updates.push_back({stream.data, stream.content + offered[k]++ * stream.bytes, stream.bytes});
                if (!valid) updates.push_back({stream.valid, &kOne, 1});
            } else if (valid) {
                updates.push_back({stream.valid, kZero, 1});
                updates.push_back({stream.data, kZero, stream.bytes});
            } else {
                fed[k] = true;
                --unfinished;
            }
        }
        for (int k = 0; k < output_count; ++k) {
            Stream& stream = outputs[k];
            if (collected[k]) continue;
            if (model->get(stream.ready)) {
                if (!model->get(stream.valid)) continue;
                idle[k] = 0;
                std::memcpy(stream.content + stream.done++ * stream.bytes, model->ports[stream.data], stream.bytes);
                if (stream.done == stream.beats) updates.push_back({stream.ready, kZero, 1});
            } else if (stream.done < stream.beats) {
                updates.push_back({stream.ready, &kOne, 1});
            } else {
                collected[k] = true;
                --unfinished;
            }
        }
        model->put(clock, 1);
        if (clock2x >= 0) model->put(clock2x, 1);
        top.eval();
        for (const Update& update : updates) std::memcpy(model->ports[update.port], update.bytes, update.count);
        if (clock2x >= 0) {
            model->put(clock2x, 0);
            top.eval();
            model->put(clock, 0);
            model->put(clock2x, 1);
            top.eval();
            model->put(clock2x, 0);
        } else {
            model->put(clock, 0);
        }
        top.eval();
        for (int64_t& waited : idle) ++waited;
    }
    return cycles;
}
