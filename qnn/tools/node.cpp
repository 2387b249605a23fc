// Streams frames through a single node, with or without stalls, and watches both handshakes.
//
//   node INPUT INPUT_BYTES INPUT_BEATS OUTPUT OUTPUT_BYTES OUTPUT_BEATS FRAMES STALLS STATISTICS
//
// The files are simulate.cpp's. STALLS is 0, or the mean number of cycles after which the source stops or goes on
// offering beats, and the sink taking them, each at random by a fixed seed. A source that offers nothing shows the
// inverse of its next beat, so that data taken without a handshake are wrong.
//
// When all is given, kIdleCycles more cycles pass. STATISTICS gets one JSON object: whether the node stood still, the
// beats given in all, the handshakes that broke the rule of AXI4-Stream (an offered beat stays until it is taken), and
// the cycle at whose end each frame was done.
//
// What the HDL reports by $error is on standard output, and the simulation goes on.
//
// Exit status: 0 done, 2 wrong arguments or files.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr int kBadInput = 2;
constexpr int kResetCycles = 10;
constexpr int kIdleCycles = 64;
constexpr uint64_t kStallLimit = 100'000;

[[noreturn]] void refuse(const std::string& message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(kBadInput);
}

// On a little-endian host a port of Verilator, an integer or 32-bit words, is the beat's bytes in order.
template <class Port> void put(Port& port, const uint8_t* bytes, size_t count, uint8_t inverted) {
    std::vector<uint8_t> beat(bytes, bytes + count);
    for (uint8_t& byte : beat) byte ^= inverted;
    std::memcpy(&port, beat.data(), count);
}
template <class Port> void get(const Port& port, uint8_t* bytes, size_t count) { std::memcpy(bytes, &port, count); }

std::vector<uint8_t> read(const char* path, size_t size) {
    std::vector<uint8_t> bytes(size);
    std::FILE* file = std::fopen(path, "rb");
    if (!file || std::fread(bytes.data(), 1, size, file) != size) refuse(std::string("cannot read ") + path);
    std::fclose(file);
    return bytes;
}

void write(const char* path, const void* bytes, size_t size) {
    std::FILE* file = std::fopen(path, "wb");
    if (!file || std::fwrite(bytes, 1, size, file) != size || std::fclose(file)) refuse(std::string("cannot write ") + path);
}

// Goes on for `mean` cycles on average, then stops for as long; always on where `mean` is 0.
class Gate {
  public:
    Gate(uint32_t mean, uint32_t seed) : mean_(mean), state_(seed) {}
    bool next() {
        if (!mean_) return true;
        state_ ^= state_ << 13;
        state_ ^= state_ >> 17;
        state_ ^= state_ << 5;
        if (state_ % mean_ == 0) open_ = !open_;
        return open_;
    }

  private:
    const uint32_t mean_;
    uint32_t state_;
    bool open_ = true;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 10) refuse("nine arguments are needed");
    const size_t input_bytes = std::strtoull(argv[2], nullptr, 10);
    const size_t input_beats = std::strtoull(argv[3], nullptr, 10);
    const size_t output_bytes = std::strtoull(argv[5], nullptr, 10);
    const size_t output_beats = std::strtoull(argv[6], nullptr, 10);
    const size_t frames = std::strtoull(argv[7], nullptr, 10);
    const uint32_t stalls = std::strtoul(argv[8], nullptr, 10);

    const auto context = std::make_unique<VerilatedContext>();
    context->fatalOnError(false);  // $error is told, and the caller judges it
    const auto top = std::make_unique<Vtop>(context.get());
    if (!input_bytes || !input_beats || !output_bytes || !output_beats || !frames) refuse("every number has to be above 0");
    if (input_bytes > sizeof(top->in0_V_tdata) || output_bytes > sizeof(top->out0_V_tdata)) {
        refuse("a beat is wider than the node's port");
    }
    const size_t beats_in = frames * input_beats;
    const size_t beats_out = frames * output_beats;
    const std::vector<uint8_t> input = read(argv[1], beats_in * input_bytes);
    std::vector<uint8_t> output(beats_out * output_bytes);
    std::vector<uint8_t> before(output_bytes), now(output_bytes);
    std::string completions;

    top->ap_rst_n = 0;
    top->in0_V_tvalid = 0;
    top->out0_V_tready = 1;
    for (int half = 0; half < 2 * kResetCycles; ++half) {
        top->ap_clk = half & 1;
        top->eval();
    }
    top->ap_rst_n = 1;

    Gate source(stalls, 0x12345678), sink(stalls, 0x87654321);
    size_t taken = 0, given = 0, broken = 0;
    bool offered = false, waiting = false;
    uint64_t last_progress = 0, idle = 0;
    for (uint64_t cycle = 0; idle < kIdleCycles && cycle - last_progress < kStallLimit; ++cycle) {
        top->ap_clk = 0;
        const bool open = source.next();
        offered = taken < beats_in && (offered || open);
        top->in0_V_tvalid = offered;
        if (taken < beats_in) put(top->in0_V_tdata, &input[taken * input_bytes], input_bytes, offered ? 0 : 0xff);
        top->out0_V_tready = sink.next();
        top->eval();
        const bool takes = offered && top->in0_V_tready;
        const bool gives = top->out0_V_tvalid && top->out0_V_tready;
        get(top->out0_V_tdata, now.data(), output_bytes);
        broken += waiting && (!top->out0_V_tvalid || now != before);
        waiting = top->out0_V_tvalid && !gives;
        before = now;
        if (gives && given < beats_out) std::memcpy(&output[given * output_bytes], now.data(), output_bytes);
        top->ap_clk = 1;
        top->eval();
        if (takes) {
            ++taken;
            offered = false;
        }
        if (gives && ++given % output_beats == 0 && given <= beats_out) {
            completions += (completions.empty() ? "" : ",") + std::to_string(cycle + 1);
        }
        if (takes || gives) last_progress = cycle;
        if (given >= beats_out && taken == beats_in) ++idle;
    }
    top->final();

    write(argv[4], output.data(), output.size());
    const bool still = given < beats_out || taken < beats_in;
    const std::string json = std::string("{\"deadlock\": ") + (still ? "true" : "false") + ", \"beats_taken\": " +
                             std::to_string(taken) + ", \"beats_given\": " + std::to_string(given) +
                             ", \"broken_handshakes\": " + std::to_string(broken) + ", \"completions_cycles\": [" +
                             completions + "]}\n";
    write(argv[9], json.data(), json.size());
    return 0;
}
