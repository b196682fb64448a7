#pragma once

#include "cuda/queue.hpp"

#include <cuda_runtime_api.h>

#include <map>
#include <memory>

namespace plait::cuda {

/// Attention by cuDNN's graph API: bf16, heads of 64 or 128, backward deterministic. What is built for a
/// shape is kept. Of one thread at a time.
class CudnnAttention {
  public:
    CudnnAttention();
    ~CudnnAttention();

    /// Puts the call on the stream; false, with nothing done, where cuDNN does not take the shape or wants
    /// more workspace than the call has. Throws Error where a shape is new while the stream is recorded, and
    /// where cuDNN fails.
    bool attend(AttentionCall const& call, cudaStream_t stream, bool recording);
    /// Leaves cuDNN's own things lying when this is destroyed: the device is lost.
    void abandon();

  private:
    struct Plan;
    struct Library;
    Plan& plan_for(AttentionCall const& call, bool recording);

    std::unique_ptr<Library> library_;
};

}  // namespace plait::cuda
