#pragma once

#include <memory>
#include <string>
#include <vector>

#include "corpus.hpp"
#include "generation.hpp"
#include "plait/train/metrics.hpp"

namespace plait::tools {

/// What a model writes while it is trained (run.sample_*): a decoder over a copy of the weights, with the
/// sampling of `plait generate`. The first rank of a run has one; nothing of the training run sees it.
class Sampler {
  public:
    /// Plans the decoder; takes no memory for tensors.
    Sampler(Config const& config, std::shared_ptr<Backend> backend);

    /// Of the copy in the compute dtype, the cache, the scratch, and the largest weight on its way here, as
    /// a whole and as a block.
    std::int64_t bytes() const;
    /// The codec of the run's text, which draw() needs.
    void take(TextCodec codec) { codec_ = std::move(codec); }
    /// Takes the memory.
    void allocate() { state_->allocate(); }
    /// The parameter of this path, whole, from now on.
    void set(std::string const& path, Array const& values);
    /// A row a prompt: step, prompt, text. Each text depends on the weights, the prompts and run.seed alone.
    /// Calls `alive` after each token. Throws Error where a logit is not finite.
    std::vector<MetricsRow> draw(std::int64_t step, std::function<void()> const& alive);

  private:
    Config config_;
    Model model_;
    std::shared_ptr<State> state_;
    std::vector<std::string> prompts_;
    Decoder decoder_;
    TextCodec codec_;
};

/// Where run.sample_every asks for samples, what draws them on this rank, counted in programs.sample_bytes;
/// else null.
std::unique_ptr<Sampler> plan_sampler(Config const& config, Programs& programs);

/// The codec of a run on `corpus`. Throws UsageError for tokens that came without their tokenizer, when
/// samples are asked for.
TextCodec codec_of(Config const& config, Corpus const& corpus);

}  // namespace plait::tools
