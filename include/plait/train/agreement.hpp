#pragma once

#include "plait/comm/communicator.hpp"
#include "plait/core/inline.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

// What the ranks of a run agree on outside their programs. All functions are collective, on the world's
// communicator, so that what they send is no part of the wire bytes of a mesh axis.
namespace plait {

/// A failure that every rank of the world throws alike and at the same place, so that it is told once.
struct AgreedError : Error {
    using Error::Error;
};
/// The same for bad input: exit code 2.
struct AgreedUsageError : UsageError {
    using UsageError::UsageError;
};

/// Runs f on every rank and returns when all have. Where it fails on some, all throw AgreedUsageError or
/// AgreedError with the message of the lowest of them; it names the rank unless all failed alike. f makes no
/// collective calls.
void together(Communicator& world, std::function<void()> const& f);

/// The numbers of all ranks, as many from each: [size, count].
std::vector<std::int64_t> gather_numbers(Communicator& world, std::span<std::int64_t const> mine);
/// The texts of all ranks, in order.
std::vector<std::string> gather_texts(Communicator& world, std::string const& mine);
/// The text of rank `root`, on every rank.
std::string broadcast_text(Communicator& world, std::string text, int root = 0);
/// Replaces every number by the largest over the ranks.
void take_largest(Communicator& world, std::span<std::int64_t> numbers);

/// A name and a text that must be the same on all ranks: {"data.batch", "16"}.
using Claims = std::vector<std::pair<std::string, std::string>>;

/// Compares claims by their hashes. The first that differs is an AgreedUsageError that names it, the ranks
/// that differ from most, what they have and what the others have: of long texts from the first word that
/// differs.
void agree(Communicator& world, Claims const& claims);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/agreement-inl.hpp"
#endif
