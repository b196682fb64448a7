#pragma once

#include "plait/core/random.hpp"
#include "plait/train/agreement.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

namespace plait {
namespace detail {

/// "rank 1", "rank 1 and rank 3", "rank 1, rank 2 and rank 3"
inline std::string ranks_text(std::vector<int> const& ranks) {
    std::string text;
    for (std::size_t i = 0; i < ranks.size(); ++i)
        text += fmt::format("{}rank {}", i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
    return text;
}

/// Two texts that differ, in one line each: whole while they are short, else from the first word that does.
inline std::pair<std::string, std::string> shown_apart(std::string a, std::string b) {
    constexpr std::size_t most = 120, before = 40;
    for (auto* text : {&a, &b}) std::replace(text->begin(), text->end(), '\n', ' ');
    if (std::max(a.size(), b.size()) <= most) return {a, b};
    auto const at =
        static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
    auto const blank = at == 0 ? std::string::npos : a.rfind(' ', at - 1);
    auto from = blank == std::string::npos ? 0 : blank + 1;
    if (at - from > before) from = at - before;
    auto piece = [&](std::string const& text) {
        if (from >= text.size()) return std::string("no more than that");
        return fmt::format("{}{}{}", from ? "..." : "", text.substr(from, most),
                           text.size() > from + most ? "..." : "");
    };
    return {piece(a), piece(b)};
}

enum class Outcome : std::int64_t { good, failed, misused };

[[noreturn]] inline void throw_agreed(Outcome outcome, std::string const& message) {
    if (outcome == Outcome::misused) throw AgreedUsageError(message);
    throw AgreedError(message);
}

}  // namespace detail

PLAIT_INLINE std::vector<std::int64_t> gather_numbers(Communicator& world,
                                                      std::span<std::int64_t const> mine) {
    std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(world.size()));
    world.all_gather(mine, std::span(all)).wait();
    return all;
}

PLAIT_INLINE std::vector<std::string> gather_texts(Communicator& world, std::string const& mine) {
    std::int64_t const length = std::ssize(mine);
    auto const lengths = gather_numbers(world, std::span(&length, 1));
    auto const most = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
    std::vector<std::uint8_t> padded(most), all(most * lengths.size());
    std::copy(mine.begin(), mine.end(), padded.begin());
    world.all_gather(std::span(padded), std::span(all)).wait();
    std::vector<std::string> texts;
    for (std::size_t r = 0; r < lengths.size(); ++r) {
        auto const* first = reinterpret_cast<char const*>(all.data()) + r * most;
        texts.emplace_back(first, static_cast<std::size_t>(lengths[r]));
    }
    return texts;
}

PLAIT_INLINE std::string broadcast_text(Communicator& world, std::string text, int root) {
    std::int64_t length = std::ssize(text);
    world.broadcast(std::span(&length, 1), root).wait();
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(length));
    if (world.rank() == root) std::copy(text.begin(), text.end(), bytes.begin());
    world.broadcast(std::span(bytes), root).wait();
    return {bytes.begin(), bytes.end()};
}

PLAIT_INLINE void take_largest(Communicator& world, std::span<std::int64_t> numbers) {
    world.all_reduce(numbers, Combine::max).wait();
}

PLAIT_INLINE void together(Communicator& world, std::function<void()> const& f) {
    auto outcome = detail::Outcome::good;
    std::string message;
    try {
        f();
    } catch (CommunicationError const&) {
        throw;  // the world is at its end
    } catch (UsageError const& e) {
        outcome = detail::Outcome::misused, message = e.what();
    } catch (std::exception const& e) {
        outcome = detail::Outcome::failed, message = e.what();
    }
    auto const mine = static_cast<std::int64_t>(outcome);
    auto const all = gather_numbers(world, std::span(&mine, 1));
    auto const bad = std::find_if(all.begin(), all.end(), [](auto o) { return o != 0; });
    if (bad == all.end()) return;
    auto const texts = gather_texts(world, message);
    auto const first = static_cast<std::size_t>(bad - all.begin());
    bool const alike =
        std::all_of(texts.begin(), texts.end(), [&](auto const& t) { return t == texts.front(); });
    detail::throw_agreed(static_cast<detail::Outcome>(*bad),
                         alike ? texts[first] : fmt::format("rank {}: {}", first, texts[first]));
}

PLAIT_INLINE void agree(Communicator& world, Claims const& claims) {
    // One more for the names, without which rows cannot be compared.
    std::vector<std::int64_t> mine;
    std::string names;
    for (auto const& [name, text] : claims) {
        names += name + '\n';
        mine.push_back(std::bit_cast<std::int64_t>(hash_name(text)));
    }
    auto const names_hash = std::bit_cast<std::int64_t>(hash_name(names));
    auto const n = static_cast<std::size_t>(world.size());
    auto compare = [&](std::vector<std::int64_t> const& all, std::size_t width, std::size_t i,
                       std::string const& what, std::string const& text) {
        std::map<std::int64_t, std::vector<int>> ranks;
        for (std::size_t r = 0; r < n; ++r) ranks[all[r * width + i]].push_back(static_cast<int>(r));
        if (ranks.size() == 1) return;
        // Most ranks are right; of two halves the one with rank 0.
        auto const right =
            std::max_element(ranks.begin(), ranks.end(), [](auto const& a, auto const& b) {
                auto key = [](auto const& x) { return std::pair(x.second.size(), -x.second.front()); };
                return key(a) < key(b);
            })->second;
        std::vector<int> wrong;
        for (int r = 0; r < world.size(); ++r)
            if (std::find(right.begin(), right.end(), r) == right.end()) wrong.push_back(r);
        auto const texts = gather_texts(world, text);
        auto has = [&](std::vector<int> const& of) { return texts[static_cast<std::size_t>(of.front())]; };
        auto const [theirs, ours] = detail::shown_apart(has(wrong), has(right));
        throw AgreedUsageError(fmt::format("the ranks disagree on {}: {} has {}, {} {}: start them alike",
                                           what, detail::ranks_text(wrong), theirs, detail::ranks_text(right),
                                           ours));
    };
    compare(gather_numbers(world, std::span(&names_hash, 1)), 1, 0, "what a run is made of",
            fmt::format("{} entries", claims.size()));
    auto const all = gather_numbers(world, std::span(std::as_const(mine)));
    for (std::size_t i = 0; i < claims.size(); ++i)
        compare(all, claims.size(), i, claims[i].first, claims[i].second);
}

}  // namespace plait
