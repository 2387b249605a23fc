// Drives a Verilated accelerator with arbitrary frames at a given rate and tells when each frame was done.
//
//   fifo_gauge INPUT_BEATS OUTPUT_BEATS FRAMES INTERVAL STALL_LIMIT [+NAME=VALUE ...]
//
// The first beat of frame k is offered in cycle k * INTERVAL at the earliest, its other beats behind it without a pause;
// INTERVAL 0 offers a beat in every cycle. The output is always ready. What follows are Verilog's plusargs.
//
// Prints what the design prints at its end, and last a line "run" with one JSON object. Cycles are counted as in
// simulate.cpp. The run ends early, as a deadlock, when no beat was taken or given in STALL_LIMIT cycles in a row, which
// have to be more than INTERVAL. Exit status: 0 done or deadlock; 2 wrong arguments.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "Vtop.h"
#include "verilated.h"

int main(int argc, char** argv) {
    if (argc < 6) {
        std::fprintf(stderr, "five arguments are needed\n");
        return 2;
    }
    const uint64_t input_beats = std::strtoull(argv[1], nullptr, 10);
    const uint64_t output_beats = std::strtoull(argv[2], nullptr, 10);
    const uint64_t frames = std::strtoull(argv[3], nullptr, 10);
    const uint64_t interval = std::strtoull(argv[4], nullptr, 10);
    const uint64_t stall_limit = std::strtoull(argv[5], nullptr, 10);
    if (!input_beats || !output_beats || !frames || !stall_limit) {
        std::fprintf(stderr, "beats, frames and the stall limit have to be above 0\n");
        return 2;
    }
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const auto top = std::make_unique<Vtop>(context.get());

    top->ap_rst_n = 0;
    top->in0_V_tvalid = 0;
    top->out0_V_tready = 1;
    for (int half = 0; half < 20; ++half) {
        top->ap_clk = half & 1;
        top->eval();
    }
    top->ap_rst_n = 1;

    uint64_t taken = 0, given = 0, cycle = 0, last_progress = 0;
    uint32_t noise = 1;
    std::string completions;
    while (given < frames * output_beats && cycle - last_progress < stall_limit) {
        const bool due = taken < frames * input_beats && cycle >= taken / input_beats * interval;
        top->ap_clk = 0;
        top->in0_V_tvalid = due;
        top->eval();
        const bool takes = due && top->in0_V_tready;
        const bool gives = top->out0_V_tvalid;
        top->ap_clk = 1;
        top->eval();
        ++cycle;
        if (takes) {
            noise = noise * 1664525u + 1013904223u;  // Numerical Recipes' generator
            std::memset(&top->in0_V_tdata, noise >> 24, sizeof top->in0_V_tdata);
        }
        taken += takes;
        given += gives;
        if (takes || gives) last_progress = cycle;
        if (gives && given % output_beats == 0) {
            completions += (completions.empty() ? "" : ",") + std::to_string(cycle);
        }
    }
    top->final();
    std::printf("run {\"deadlock\": %s, \"cycles\": %llu, \"completions_cycles\": [%s]}\n",
                given < frames * output_beats ? "true" : "false", static_cast<unsigned long long>(cycle),
                completions.c_str());
    return 0;
}
