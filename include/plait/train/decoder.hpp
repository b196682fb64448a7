#pragma once

#include "plait/models/language.hpp"
#include "plait/nn/cache.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/train/compile.hpp"

#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace plait {

struct DecoderSizes {
    std::int64_t slots = 1;     // sequences at a time
    std::int64_t length = 256;  // tokens of one that are kept
    std::int64_t chunk = 32;    // tokens of a prompt that are read at a time
    DType compute = f32;        // of both programs and of the cache
};

/// Makes text with a language model: two programs over its state, which share a key-value cache. One reads a
/// prompt in chunks, the other one token of every sequence. The logits of a sequence have the same bits
/// whatever the other slots do and however many there are, as long as slots and chunk are at most 32.
class Decoder {
  public:
    /// Adds the cache to `state`, which has no memory yet. `model` is one of models/, and outlives this.
    /// Throws UsageError for sizes that are not positive and ShapeError for more tokens than the model has
    /// positions.
    template <class Model>
    Decoder(Model const& model, std::shared_ptr<State> state, DecoderSizes sizes)
        : sizes_(checked(sizes)), lengths_(static_cast<std::size_t>(sizes.slots), 0) {
        auto const& c = model.config;
        nn::KeyValueCache cache(c.layers, {sizes.slots, sizes.length, c.kv(), c.dim / c.heads},
                                sizes.compute);
        state->add(cache.variables());
        auto scratch = std::make_shared<Scratch>(state->shared_backend());
        auto record = [&](Batch const& b, bool last) -> Row {
            nn::Inference inference;
            auto x = model.hidden(b.tokens, cache.at(b["slots"], b["positions"]));
            x = reshape(x, {b.tokens.size(0) * b.tokens.size(1), c.dim});
            if (last) x = embedding(b["last"], x);  // only this row goes through the head
            Scope scope("head");
            return {{"logits", cast(linear(x, models::class_weight(model)), f32)}};
        };
        auto compiled = [&](std::int64_t batch, std::int64_t n, bool last) {
            return compile(
                Plan().compute(sizes.compute), state, columns(batch, n, last),
                [&](Batch const& b) { return record(b, last); }, scratch);
        };
        prefill_.emplace(compiled(1, sizes.chunk, true));
        decode_.emplace(compiled(sizes.slots, 1, false));
        variables_ = cache.variables();
    }

    /// Begins a sequence in `slot`, whatever it held: reads the tokens, 1 to `length` of them, and gives the
    /// logits [1, vocab] of the one after the last.
    Array prefill(std::int64_t slot, std::span<std::int32_t const> tokens);
    /// One token more for every slot, whose sequence must have been begun and have room: the logits
    /// [slots, vocab] of the next. A slot whose token is negative rests, and its logits mean nothing.
    Array decode(std::span<std::int32_t const> tokens);

    /// Tokens that a slot keeps.
    std::int64_t length(std::int64_t slot) const { return lengths_.at(static_cast<std::size_t>(slot)); }
    DecoderSizes const& sizes() const { return sizes_; }
    Step const& prefill_step() const { return *prefill_; }
    Step const& decode_step() const { return *decode_; }

  private:
    static DecoderSizes checked(DecoderSizes sizes);
    static Columns columns(std::int64_t batch, std::int64_t n, bool last);

    DecoderSizes sizes_;
    std::vector<std::int64_t> lengths_;
    std::vector<std::shared_ptr<Variable>> variables_;
    std::optional<Step> prefill_, decode_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/decoder-inl.hpp"
#endif
