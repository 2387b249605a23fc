// Answers questions about a Verilated Thresholding of FINN, again and again, over its standard streams.
//
//   thresholding SHAPE INPUT_BYTES OUTPUT_BYTES
//
// SHAPE chooses one of the Thresholdings in the top that thresholding_rtl.py writes; only its clock runs.
//
// A question starts with four 32-bit words (the host's byte order): command, count, valid, ready.
//   'W'  count pairs (byte address, word) follow: written through AXI-lite, one after another. Answer: count, 32 bits.
//   'S'  count beats of INPUT_BYTES bytes follow: streamed in. Answer: count beats of OUTPUT_BYTES bytes.
// Where streaming, the source offers a beat only in cycles whose bit is set in `valid` (bit cycle % 32), and the sink
// is ready only in cycles whose bit is set in `ready`, so that every kind of stall can be asked for.
//
// Byte 0 of a beat is bits 7..0 of tdata. Exit status: 0 at the end of the input; 2 wrong arguments or a question
// that is not whole; 3 no progress for kStallLimit cycles.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr int kBadInput = 2;
constexpr int kStalled = 3;
constexpr int kResetCycles = 10;
constexpr uint64_t kStallLimit = 10000;

[[noreturn]] void refuse(int status, const char* message) {
    std::fprintf(stderr, "%s\n", message);
    std::exit(status);
}

bool read_whole(void* data, size_t size) { return std::fread(data, 1, size, stdin) == size; }

void answer(const void* data, size_t size) {
    if (std::fwrite(data, 1, size, stdout) != size || std::fflush(stdout) != 0) refuse(kBadInput, "cannot answer");
}

struct Question {
    uint32_t command, count, valid, ready;
};

// One clock cycle: `settled` is looked at before the rising edge, where both sides of a handshake can be read.
template <class Settled> void cycle(Vtop& top, Settled settled) {
    top.ap_clk = 0;
    top.eval();
    settled();
    top.ap_clk = 1;
    top.eval();
}

void write_word(Vtop& top, uint32_t address, uint32_t word) {
    top.AWADDR = address;
    top.WDATA = word;
    top.AWVALID = top.WVALID = 1;
    bool answered = false;
    for (uint64_t waited = 0; !answered; ++waited) {
        if (waited == kStallLimit) refuse(kStalled, "no answer to a write through AXI-lite");
        bool address_taken = false, word_taken = false;
        cycle(top, [&] {
            address_taken = top.AWVALID && top.AWREADY;
            word_taken = top.WVALID && top.WREADY;
            answered = top.BVALID;
        });
        if (address_taken) top.AWVALID = 0;
        if (word_taken) top.WVALID = 0;
    }
}

void stream(Vtop& top, const Question& question, const std::vector<uint8_t>& input, size_t input_bytes,
            std::vector<uint8_t>& output, size_t output_bytes) {
    size_t taken = 0, given = 0;
    bool offered = false;  // an offered beat stays offered until it is taken
    uint64_t last_progress = 0;
    for (uint64_t now = 0; given < question.count; ++now) {
        if (now - last_progress == kStallLimit) refuse(kStalled, "the streams stand still");
        offered = taken < question.count && (offered || (question.valid >> now % 32 & 1));
        top.in0_V_tvalid = offered;
        if (offered) std::memcpy(&top.in0_V_tdata, &input[taken * input_bytes], input_bytes);
        top.out0_V_tready = question.ready >> now % 32 & 1;
        cycle(top, [&] {
            if (top.in0_V_tvalid && top.in0_V_tready) {
                ++taken;
                offered = false;
                last_progress = now;
            }
            if (top.out0_V_tvalid && top.out0_V_tready) {
                std::memcpy(&output[given * output_bytes], &top.out0_V_tdata, output_bytes);
                ++given;
                last_progress = now;
            }
        });
    }
    top.in0_V_tvalid = 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) refuse(kBadInput, "three arguments are needed");
    const size_t input_bytes = std::strtoull(argv[2], nullptr, 10);
    const size_t output_bytes = std::strtoull(argv[3], nullptr, 10);
    const auto context = std::make_unique<VerilatedContext>();
    const auto top = std::make_unique<Vtop>(context.get());
    if (input_bytes > sizeof(top->in0_V_tdata) || output_bytes > sizeof(top->out0_V_tdata)) {
        refuse(kBadInput, "a beat is wider than the port");
    }

    top->shape = std::strtoul(argv[1], nullptr, 10);
    top->ap_rst_n = 0;
    top->in0_V_tvalid = top->AWVALID = top->WVALID = 0;
    top->BREADY = 1;
    top->out0_V_tready = 1;
    for (int k = 0; k < kResetCycles; ++k) cycle(*top, [] {});
    top->ap_rst_n = 1;

    Question question;
    while (read_whole(&question, sizeof question)) {
        if (question.command == 'W') {
            std::vector<uint32_t> words(2 * size_t{question.count});
            if (!read_whole(words.data(), 4 * words.size())) refuse(kBadInput, "the writes are not whole");
            for (size_t k = 0; k < words.size(); k += 2) write_word(*top, words[k], words[k + 1]);
            answer(&question.count, sizeof question.count);
        } else if (question.command == 'S') {
            std::vector<uint8_t> input(question.count * input_bytes), output(question.count * output_bytes);
            if (!read_whole(input.data(), input.size())) refuse(kBadInput, "the beats are not whole");
            stream(*top, question, input, input_bytes, output, output_bytes);
            answer(output.data(), output.size());
        } else {
            refuse(kBadInput, "unknown command");
        }
    }
    return 0;
}
