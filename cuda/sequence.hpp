#pragma once

#include "plait/comm/call.hpp"

#include <map>

namespace plait::cuda {

/// The calls that a rank made on one communicator since they were last found to be the same on all ranks: a
/// hash of all collectives ever, and of each kind as many calls as tell where two ranks parted.
class Sequence {
  public:
    using Way = std::pair<int, bool>;  // of messages: the peer, and whether they go there

    void add(Call const& call);
    std::uint64_t count() const { return count_; }
    std::uint64_t hash() const { return hash_; }
    std::vector<Call> const& collectives() const { return collectives_; }
    std::map<Way, std::vector<Call>> const& messages() const { return messages_; }

    /// All ranks have made these collectives.
    void settle() { collectives_.clear(); }
    /// The peer has made the messages up to this number.
    void settle(Way way, std::uint64_t number);

  private:
    std::uint64_t count_ = 0, hash_ = 0;
    std::vector<Call> collectives_;
    std::map<Way, std::vector<Call>> messages_;
};

/// Calls as a text, and back.
std::string write_calls(std::vector<Call> const& calls);
std::vector<Call> read_calls(std::string const& text);

/// Where the collectives of the ranks part, of whom some differ.
CommunicationError parted(Members const& members, std::vector<std::vector<Call>> const& calls);

}  // namespace plait::cuda
