#pragma once

#include "cuda/runtime.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace plait::cuda {

/// The words of Queue::fault, one for each instruction that asked for one: in device memory, as atomics on
/// host memory are not to be had everywhere, with a copy for the host that is made when a step ends.
class FaultWords {
  public:
    ~FaultWords();

    /// That of an instruction, at one address for good. Takes memory now and then, which no recording may.
    std::uint32_t* at(int number, bool recording);
    /// Puts a copy to the host on the stream.
    cudaError_t fetch(cudaStream_t stream) const;
    /// Throws DeviceFault where a word that was fetched is raised, and lowers all of them.
    void check_fetched(cudaStream_t stream);

  private:
    static constexpr int words = 1024;
    struct Piece {
        std::uint32_t *device = nullptr, *host = nullptr;
    };
    std::vector<Piece> pieces_;
    std::map<int, int> slots_;  // by instruction
};

}  // namespace plait::cuda
