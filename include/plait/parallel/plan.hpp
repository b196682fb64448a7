#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace plait {

/// Where and how a program runs; the model says only what. Each call adds a line:
///     Plan().micro_batches(8).recompute("blocks.*").compute(bf16)
class Plan {
  public:
    /// Cuts the batch into `count` pieces that run one after another and add up their gradients.
    Plan& micro_batches(std::int64_t count) {
        check<UsageError>(count >= 1, "plan: {} micro-batches: use 1 or more", count);
        micro_batches_ = count;
        return *this;
    }
    /// Modules whose forward nodes are run again for backward instead of being kept.
    Plan& recompute(std::string glob) {
        recompute_.push_back(std::move(glob));
        return *this;
    }
    /// The dtype of products and activations; master weights, sums and updates stay f32.
    Plan& compute(DType dtype) {
        check<UsageError>(dtype == f32 || dtype == bf16, "plan: cannot compute in {}: use f32 or bf16",
                          name_of(dtype));
        compute_ = dtype;
        return *this;
    }

    std::int64_t micro_batches() const { return micro_batches_; }
    std::vector<std::string> const& recompute() const { return recompute_; }
    DType compute() const { return compute_; }

  private:
    std::int64_t micro_batches_ = 1;
    std::vector<std::string> recompute_;
    DType compute_ = f32;
};

}  // namespace plait
