#include "plait/ops/view.hpp"

#include "cuda/rows.hpp"

namespace plait::cuda {

void reshape(KernelCall const& call) {
    call.queue->copy(call.out[0].data, call.in[0].data, call.out[0].meta.bytes());
}

}  // namespace plait::cuda
