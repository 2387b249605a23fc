// Streams a batch of frames through a Verilated accelerator, back to back, and measures it in cycles.
//
//   simulate INPUT INPUT_BYTES INPUT_BEATS OUTPUT OUTPUT_BYTES OUTPUT_BEATS FRAMES STALL_LIMIT STATISTICS [TAPS]
//
// INPUT holds FRAMES x INPUT_BEATS beats of INPUT_BYTES bytes; OUTPUT gets FRAMES x OUTPUT_BEATS beats of
// OUTPUT_BYTES bytes, byte 0 being bits 7..0 of tdata. STATISTICS gets one JSON object. A beat is offered in every
// cycle until the input is used up, and the output is always ready.
//
// Cycle 0 is the first one after reset, in which the first input beat is offered. A frame's completion is the number of
// cycles from there to the end of the cycle that hands over its last output beat, so the first frame's completion is
// its latency and the last frame's is the length of the batch.
//
// A node whose inputs stay as they are and whose state a rising edge has not changed is not changed by the next edge
// either: such a node sleeps, its clock is held, until one of its inputs changes. So every register has in every cycle
// the value that it would have with one clock for all. qnn/tools/verilator.py writes nodes.h, which knows the nodes.
//
// TAPS is a folder for what went over each stream of the chain of nodes, the input's first: the file s<k>.<bytes> holds
// the beats of stream k, each of <bytes> bytes as Verilator keeps them. In a deadlock they are those up to it.
//
// Exit status: 0 done; 2 wrong arguments or files; 3 deadlock, that is STALL_LIMIT cycles in a row in which no
// beat was taken and none was given. STATISTICS and TAPS are written for 0 and 3.
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "nodes.h"
#include "verilated.h"

namespace {

constexpr int kBadInput = 2;
constexpr int kDeadlock = 3;
constexpr int kResetCycles = 10;
constexpr uint32_t kFirstLookCycles = 8;
constexpr uint64_t kAllClocks = kNodes ? ~uint64_t{0} >> (64 - kNodes) : 1;

[[noreturn]] void refuse(const std::string& message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(kBadInput);
}

// Verilator keeps a port of up to 64 bits as an integer and a wider one as an array of 32-bit words, least
// significant first: on a little-endian host both are the beat's bytes in order.
template <class Port> void put(Port& port, const uint8_t* bytes, size_t count) { std::memcpy(&port, bytes, count); }
template <class Port> void get(const Port& port, uint8_t* bytes, size_t count) { std::memcpy(bytes, &port, count); }

std::vector<uint8_t> read_exactly(const char* path, size_t size) {
    std::vector<uint8_t> bytes(size + 1);
    std::FILE* file = std::fopen(path, "rb");
    if (!file) refuse(std::string("cannot read ") + path);
    const size_t count = std::fread(bytes.data(), 1, size + 1, file);
    std::fclose(file);
    if (count != size) {
        refuse(std::string(path) + " has " + (count > size ? "more than " : "") + std::to_string(count > size ? size : count) +
               " bytes where " + std::to_string(size) + " are needed");
    }
    bytes.resize(size);
    return bytes;
}

void write_all(const char* path, const void* data, size_t size) {
    std::FILE* file = std::fopen(path, "wb");
    if (!file || std::fwrite(data, 1, size, file) != size || std::fclose(file) != 0) {
        refuse(std::string("cannot write ") + path);
    }
}

// Puts nodes to sleep and wakes them. Nodes form a chain: node k takes stream k and gives stream k + 1.
class Sleep {
  public:
    explicit Sleep(const Vtop& top) : top_(top), states_(states(top)) {}

    // The clocks of this cycle, bit k for node k: called when all inputs of the cycle have settled, before the edge.
    uint64_t clocks() {
        each_stream(top_, [this](int k, uint8_t valid, uint8_t ready, const auto& data) { look(streams_[k], valid, ready, data); });
        uint64_t clocks = 0;
        for (int k = 0; k < kNodes; ++k) {
            Node& node = nodes_[k];
            if (streams_[k].forward_changed || streams_[k + 1].backward_changed) {
                node = {.before = std::move(node.before)};
            } else if (node.awake && ++node.quiet_cycles == node.look_at_cycles) {
                node.before.assign(states_[k].begin(), states_[k].end());
                looked_at_ |= uint64_t{1} << k;
            }
            clocks |= uint64_t{node.awake} << k;
        }
        return clocks;
    }

    // After the edge: a node that was looked at and has not changed sleeps; one that has is looked at later again.
    void after_edge() {
        for (; looked_at_; looked_at_ &= looked_at_ - 1) {
            const int k = std::countr_zero(looked_at_);
            nodes_[k].awake = std::memcmp(nodes_[k].before.data(), states_[k].data(), states_[k].size()) != 0;
            nodes_[k].look_at_cycles *= 2;
        }
    }

  private:
    struct Node {
        bool awake = true;
        uint32_t quiet_cycles = 0;  // in a row in which no input changed
        uint32_t look_at_cycles = kFirstLookCycles;
        std::vector<char> before;
    };
    struct Stream {  // as it was in the cycle before
        uint8_t valid = 0;
        uint8_t ready = 0;
        bool forward_changed = false;
        bool backward_changed = false;
        std::vector<char> data;
    };

    template <class Data> static void look(Stream& stream, uint8_t valid, uint8_t ready, const Data& data) {
        if (stream.data.empty()) stream.data.resize(sizeof data);
        stream.forward_changed = valid != stream.valid || std::memcmp(stream.data.data(), &data, sizeof data) != 0;
        stream.backward_changed = ready != stream.ready;
        stream.valid = valid;
        stream.ready = ready;
        if (stream.forward_changed) std::memcpy(stream.data.data(), &data, sizeof data);
    }

    const Vtop& top_;
    const std::array<std::span<const char>, kNodes> states_;
    std::array<Node, kNodes> nodes_;
    std::array<Stream, kNodes + 1> streams_;
    uint64_t looked_at_ = 0;
};

// The beats that go over each stream.
class Taps {
  public:
    // Called when all inputs of the cycle have settled, before the edge.
    void cycle(const Vtop& top) {
        each_stream(top, [this](int k, uint8_t valid, uint8_t ready, const auto& data) {
            bytes_[k] = sizeof data;
            const auto* first = reinterpret_cast<const uint8_t*>(&data);
            if (valid && ready) beats_[k].insert(beats_[k].end(), first, first + sizeof data);
        });
    }

    void write(const std::string& folder) const {
        for (size_t k = 0; k < beats_.size(); ++k) {
            const std::string path = folder + "/s" + std::to_string(k) + "." + std::to_string(bytes_[k]);
            write_all(path.c_str(), beats_[k].data(), beats_[k].size());
        }
    }

  private:
    std::array<std::vector<uint8_t>, kNodes + 1> beats_;
    std::array<size_t, kNodes + 1> bytes_{};
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 10 && argc != 11) refuse("nine or ten arguments are needed");
    const char* const taps_folder = argc == 11 ? argv[10] : nullptr;
    if (taps_folder && !kNodes) refuse("the streams of this design cannot be told: it is no chain of nodes");
    const size_t input_bytes = std::strtoull(argv[2], nullptr, 10);
    const size_t input_beats = std::strtoull(argv[3], nullptr, 10);
    const size_t output_bytes = std::strtoull(argv[5], nullptr, 10);
    const size_t output_beats = std::strtoull(argv[6], nullptr, 10);
    const size_t frames = std::strtoull(argv[7], nullptr, 10);
    const uint64_t stall_limit = std::strtoull(argv[8], nullptr, 10);

    const auto context = std::make_unique<VerilatedContext>();
    const auto top = std::make_unique<Vtop>(context.get());
    if (!input_bytes || !input_beats || !output_bytes || !output_beats || !frames || !stall_limit) {
        refuse("every number has to be above 0");
    }
    if (input_bytes > sizeof(top->in0_V_tdata) || output_bytes > sizeof(top->out0_V_tdata)) {
        refuse("a beat is wider than the accelerator's port");
    }

    const size_t beats_in = frames * input_beats;
    const size_t beats_out = frames * output_beats;
    const std::vector<uint8_t> input = read_exactly(argv[1], beats_in * input_bytes);
    std::vector<uint8_t> output(beats_out * output_bytes);
    std::vector<uint64_t> completions;
    completions.reserve(frames);

    top->ap_rst_n = 0;
    top->in0_V_tvalid = 0;
    top->out0_V_tready = 1;
    for (int half = 0; half < 2 * kResetCycles; ++half) {
        top->ap_clk = half & 1 ? kAllClocks : 0;
        top->eval();
    }
    top->ap_rst_n = 1;

    Sleep sleep(*top);
    Taps taps;
    uint64_t node_cycles = 0;
    size_t taken = 0;
    size_t given = 0;
    uint64_t cycle = 0;
    uint64_t last_progress = 0;
    const std::clock_t start = std::clock();
    while (given < beats_out && cycle - last_progress < stall_limit) {
        // Low phase: this cycle's inputs settle, and both handshakes can be read, combinational ones as well.
        top->ap_clk = 0;
        top->in0_V_tvalid = taken < beats_in;
        if (taken < beats_in) put(top->in0_V_tdata, &input[taken * input_bytes], input_bytes);
        top->eval();
        const bool takes = top->in0_V_tvalid && top->in0_V_tready;
        const bool gives = top->out0_V_tvalid;
        if (gives) get(top->out0_V_tdata, &output[given * output_bytes], output_bytes);
        if (taps_folder) taps.cycle(*top);
        // Rising edge.
        const uint64_t clocks = kNodes ? sleep.clocks() : kAllClocks;
        top->ap_clk = clocks;
        top->eval();
        sleep.after_edge();
        node_cycles += std::popcount(clocks);
        ++cycle;
        taken += takes;
        given += gives;
        if (takes || gives) last_progress = cycle;
        if (gives && given % output_beats == 0) completions.push_back(cycle);
    }
    const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;  // of the processor: not of waiting for one
    top->final();

    const bool deadlock = given < beats_out;
    if (!deadlock) write_all(argv[4], output.data(), output.size());
    std::string json = "{\"deadlock\": " + std::string(deadlock ? "true" : "false") + ", \"cycles\": " + std::to_string(cycle) +
                       ", \"beats_taken\": " + std::to_string(taken) + ", \"beats_given\": " + std::to_string(given) +
                       ", \"nodes\": " + std::to_string(std::popcount(kAllClocks)) +
                       ", \"node_cycles\": " + std::to_string(node_cycles) + ", \"seconds\": " + std::to_string(seconds) + ", \"completions\": [";
    for (size_t frame = 0; frame < completions.size(); ++frame) {
        json += (frame ? "," : "") + std::to_string(completions[frame]);
    }
    json += "]}\n";
    write_all(argv[9], json.data(), json.size());
    if (taps_folder) taps.write(taps_folder);
    return deadlock ? kDeadlock : 0;
}
