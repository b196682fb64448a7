#include "cuda/sequence.hpp"

#include "plait/core/random.hpp"

#include <algorithm>
#include <set>
#include <sstream>

namespace plait::cuda {

namespace {

constexpr std::size_t most = 4096;

void keep(std::vector<Call>& calls, Call const& call) {
    if (calls.size() == most) calls.erase(calls.begin(), calls.begin() + most / 2);
    calls.push_back(call);
}

}  // namespace

void Sequence::add(Call const& call) {
    if (call.is_message()) return keep(messages_[{call.peer, call.verb == Verb::send}], call);
    ++count_;
    for (auto field : {call.number, call.site, static_cast<std::uint64_t>(call.count),
                       static_cast<std::uint64_t>(call.peer), static_cast<std::uint64_t>(call.verb),
                       static_cast<std::uint64_t>(call.dtype), static_cast<std::uint64_t>(call.combine)})
        hash_ = mix(hash_ ^ field);
    keep(collectives_, call);
}

void Sequence::settle(Way way, std::uint64_t number) {
    std::erase_if(messages_[way], [&](Call const& c) { return c.number <= number; });
}

std::string write_calls(std::vector<Call> const& calls) {
    std::string text;
    for (auto const& c : calls)
        text += fmt::format("{} {} {} {} {} {} {}\n", c.number, c.site, c.count, c.peer,
                            static_cast<int>(c.verb), static_cast<int>(c.dtype), static_cast<int>(c.combine));
    return text;
}

std::vector<Call> read_calls(std::string const& text) {
    std::vector<Call> calls;
    std::istringstream in(text);
    Call c;
    int verb = 0, dtype = 0, combine = 0;
    while (in >> c.number >> c.site >> c.count >> c.peer >> verb >> dtype >> combine) {
        c.verb = static_cast<Verb>(verb), c.dtype = static_cast<DType>(dtype);
        c.combine = static_cast<Combine>(combine);
        calls.push_back(c);
    }
    return calls;
}

CommunicationError parted(Members const& members, std::vector<std::vector<Call>> const& calls) {
    std::set<std::uint64_t> numbers;
    for (auto const& of : calls)
        for (auto const& c : of) numbers.insert(c.number);
    for (auto number : numbers) {
        std::vector<Call> row;
        for (auto const& of : calls) {
            auto it = std::find_if(of.begin(), of.end(), [&](Call const& c) { return c.number == number; });
            if (it != of.end()) row.push_back(*it);
        }
        if (row.size() < calls.size()) continue;
        if (auto wrong = members.mismatch(row)) return *wrong;
    }
    std::string text;
    for (std::size_t r = 0; r < calls.size(); ++r)
        text += fmt::format("{}{} has made {}", r ? ", " : "", members.rank(static_cast<int>(r)),
                            calls[r].empty() ? 0 : calls[r].back().number);
    return CommunicationError(fmt::format("{}: the ranks have made other calls: {}", members.name, text),
                              members.world, members.world.front());
}

}  // namespace plait::cuda
