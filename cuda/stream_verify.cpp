#include "cuda/stream_communicator.hpp"

#include <sstream>

// How ranks find out that they have called other things: over the board, as a call that the others do not
// make never ends on a GPU.
namespace plait::cuda {

void StreamCommunicator::verify(Call const& at) {
    if (size() == 1) return sequence_.settle();
    auto& board = world_->board();
    auto const limit = world_->options().limit_seconds;
    auto const key = fmt::format("check/{}/{}", context_, ++checks_);
    std::vector<std::string> keys;
    for (auto const& [way, calls] : sequence_.messages()) {
        keys.push_back(fmt::format("{}/messages/{}/{}/{}", key, rank(), way.first, way.second));
        board.put(keys.back(), write_calls(calls));
    }
    auto mine = fmt::format("{} {:x}", sequence_.count(), sequence_.hash());
    auto rank_of = [](std::string const& entry) { return std::stoi(entry.substr(entry.rfind(' ') + 1)); };
    auto calls_of = [](std::string const& entry) { return entry.substr(0, entry.rfind(' ')); };
    // Who comes last compares for all.
    if (board.append(key, fmt::format("{} {}", mine, rank())) == size()) {
        bool alike = true;
        auto const all = board.get(key, 0, size()).value();
        for (auto const& entry : all) alike = alike && calls_of(entry) == mine;
        board.put(key + "/verdict", alike ? "alike" : "differ");
    }
    std::optional<std::vector<std::string>> verdict;
    world_->wait(
        [&] {
            verdict = board.get(key + "/verdict", 0.02);
            return verdict.has_value();
        },
        [&] {
            std::vector<bool> came(static_cast<std::size_t>(size()));
            auto const all = board.get(key, 0).value();
            for (auto const& entry : all) came[static_cast<std::size_t>(rank_of(entry))] = true;
            std::vector<int> late, there;
            for (int r = 0; r < size(); ++r) (came[static_cast<std::size_t>(r)] ? there : late).push_back(r);
            if (late.empty()) return;
            world_->fail(members_.missing(late, there, at, limit));
        });
    if (verdict->front() != "alike") {
        board.put(fmt::format("{}/calls/{}", key, rank()), write_calls(sequence_.collectives()));
        std::vector<std::vector<Call>> calls;
        for (int r = 0; r < size(); ++r) {
            auto text = board.get(fmt::format("{}/calls/{}", key, r), std::min(limit, 10.0));
            calls.push_back(text ? read_calls(text->front()) : std::vector<Call>());
        }
        world_->fail(parted(members_, calls));
    }
    sequence_.settle();
    compare_messages(key);
    // All ranks are past the check before this one.
    for (auto const& old : old_keys_) board.erase(old);
    old_keys_ = std::move(keys);
    if (rank() == 0) old_keys_.insert(old_keys_.end(), {key, key + "/verdict"});
}

void StreamCommunicator::compare_messages(std::string const& key) {
    auto const messages = sequence_.messages();
    for (auto const& [way, mine] : messages) {
        auto text =
            world_->board().get(fmt::format("{}/messages/{}/{}/{}", key, way.first, rank(), !way.second), 0);
        if (!text) continue;  // the peer has yet to come to the first
        auto const theirs = read_calls(text->front());
        for (auto const& one : mine)
            for (auto const& other : theirs) {
                if (one.number != other.number) continue;
                if (auto wrong = members_.mismatch(rank(), one, other)) world_->fail(*wrong);
            }
        if (!mine.empty() && !theirs.empty())
            sequence_.settle(way, std::min(mine.back().number, theirs.back().number));
    }
}

}  // namespace plait::cuda
