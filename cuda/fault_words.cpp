#include "cuda/fault_words.hpp"

#include "plait/exec/backend.hpp"

#include <algorithm>
#include <cstddef>

namespace plait::cuda {

FaultWords::~FaultWords() {
    for (auto const& p : pieces_) {
        static_cast<void>(cudaFree(p.device));
        static_cast<void>(cudaFreeHost(p.host));
    }
}

std::uint32_t* FaultWords::at(int number, bool recording) {
    auto known = slots_.find(number);
    if (known == slots_.end()) {
        auto slot = static_cast<int>(slots_.size());
        if (slot % words == 0) {
            check(!recording, "instruction {} is new while a step is recorded: run every op once before",
                  number);
            auto& p = pieces_.emplace_back();
            auto bytes = words * sizeof(std::uint32_t);
            check_cuda(cudaMalloc(reinterpret_cast<void**>(&p.device), bytes), "words for faults");
            check_cuda(cudaHostAlloc(reinterpret_cast<void**>(&p.host), bytes, cudaHostAllocDefault),
                       "words for faults");
            std::fill_n(p.host, words, 0u);
            // Done when it returns, and no stream of ours waits or is waited for.
            check_cuda(cudaMemcpy(p.device, p.host, bytes, cudaMemcpyHostToDevice), "words for faults");
        }
        known = slots_.emplace(number, slot).first;
    }
    auto slot = static_cast<std::size_t>(known->second);
    return pieces_[slot / words].device + slot % words;
}

cudaError_t FaultWords::fetch(cudaStream_t stream) const {
    auto left = slots_.size();
    for (auto const& p : pieces_) {
        auto bytes = std::min<std::size_t>(left, words) * sizeof(std::uint32_t);
        if (auto error = cudaMemcpyAsync(p.host, p.device, bytes, cudaMemcpyDeviceToHost, stream))
            return error;
        left -= std::min<std::size_t>(left, words);
    }
    return cudaSuccess;
}

void FaultWords::check_fetched(cudaStream_t stream) {
    for (auto [number, slot] : slots_) {
        auto element = pieces_[static_cast<std::size_t>(slot / words)].host[slot % words];
        if (element == 0) continue;
        for (auto const& p : pieces_) {
            std::fill_n(p.host, words, 0u);
            check_cuda(cudaMemsetAsync(p.device, 0, words * sizeof(std::uint32_t), stream),
                       "words for faults");
        }
        throw DeviceFault(fmt::format("a token or class lies outside its table, at element {}", element - 1),
                          number, number);
    }
}

}  // namespace plait::cuda
