#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model.hpp"
#include "plait/train/decoder.hpp"
#include "sampling.hpp"
#include "text_codec.hpp"
#include "text_stream.hpp"

namespace plait::tools {

/// A decoder of `slots` sequences that keep `context` tokens each, over a state without memory. `chunk`
/// tokens of a prompt are read at a time, at most 32.
Decoder make_decoder(Model const& model, std::shared_ptr<State> state, std::int64_t slots,
                     std::int64_t context, std::int64_t chunk, DType compute);

/// Fills a parameter of a state, which may keep it in another dtype, from its values in f32 or bf16.
void write_weight(State& state, Variable const& v, Array const& values);

/// How texts go on, all alike.
struct GenerationOptions {
    Sampling sampling;
    std::int64_t tokens = 200;  // made for each
    std::uint64_t seed = 1;
    std::string stop;  // ends a text, and is no part of it; empty: nothing does
};

/// A prompt and what has been made of it.
struct Sequence {
    using Clock = std::chrono::steady_clock;

    std::string prompt;
    std::vector<std::int32_t> tokens;  // those of the prompt first
    std::size_t given = 0;             // of the prompt
    TextStream text;
    bool done = false;
    Clock::time_point began{}, first{}, last{};

    std::size_t made() const { return tokens.size() - given; }
    double tokens_per_second() const;
};

/// From one time to another, in seconds.
double seconds_between(Sequence::Clock::time_point from, Sequence::Clock::time_point to);

/// The prompts as tokens; an empty one begins as a document does.
std::vector<Sequence> sequences_of(std::vector<std::string> const& prompts, TextCodec const& codec,
                                   std::string const& stop);

/// All sequences through the slots of a decoder: one that waits takes the first slot that is free, and where
/// the context is full the model reads the last half of it again.
class Generation {
  public:
    /// `codec` and `decoder` must outlive this.
    Generation(GenerationOptions options, std::vector<Sequence> begun, TextCodec const& codec,
               Decoder& decoder);

    /// Calls show(i) whenever sequence i has grown. Throws Error where the model's logits are not finite.
    void run(std::function<void(std::size_t)> const& show);

    std::vector<Sequence> sequences;
    std::int64_t moves = 0;    // of the window
    std::int64_t decoded = 0;  // tokens of all sequences, in
    double decode_seconds = 0;

  private:
    /// What a slot that has read a text says.
    struct Fresh {
        std::size_t slot;
        Array logits;
    };

    /// Reads the last `most` tokens of the slot's sequence, or all.
    Array prefill(std::size_t slot, std::int64_t most);
    /// Draws the next token of a slot's sequence.
    void take(std::size_t slot, std::span<float const> logits);

    GenerationOptions options_;
    TextCodec const& codec_;
    Decoder& decoder_;
    std::vector<std::optional<std::size_t>> slots_;  // the sequence of each
    std::size_t rest_ = 0;                           // sequences that are not done
};

}  // namespace plait::tools
