#pragma once

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "plait/comm/communicator.hpp"
#include "plait/comm/ordered.hpp"
#include "plait/core/random.hpp"

// What every transport must do, for any number of ranks. These run on the ranks' threads, where Catch's
// macros may not be used, so they throw.
namespace tests {

template <class... Args>
void expect(bool ok, fmt::format_string<Args...> format, Args&&... args) {
    plait::check(ok, format, std::forward<Args>(args)...);
}

/// Element i of rank r: integers of any bits, floats of mixed size, so that the order of a sum shows.
template <class T>
T element(int r, std::int64_t i) {
    auto bits = plait::mix(static_cast<std::uint64_t>(i) * 64 + static_cast<std::uint64_t>(r));
    if constexpr (std::is_integral_v<T>) return static_cast<T>(bits);
    else {
        auto x = static_cast<double>(static_cast<std::int64_t>(bits)) * 0x1p-63;
        return static_cast<T>(static_cast<float>(x * static_cast<double>(1 << (bits % 12))));
    }
}

template <class T>
std::vector<T> values(int r, std::int64_t count) {
    std::vector<T> v(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) v[static_cast<std::size_t>(i)] = element<T>(r, i);
    return v;
}

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// The combination of values(r, count) over all ranks.
template <class T>
std::vector<T> combined(int size, std::int64_t count, plait::Combine how) {
    std::vector<std::vector<T>> all;
    std::vector<std::byte const*> inputs;
    for (int r = 0; r < size; ++r) all.push_back(values<T>(r, count));
    for (auto const& v : all) inputs.push_back(reinterpret_cast<std::byte const*>(v.data()));
    std::vector<T> out(static_cast<std::size_t>(count));
    plait::ordered_combine(how, plait::dtype_of<T>, inputs, reinterpret_cast<std::byte*>(out.data()), count);
    return out;
}

template <class T>
std::vector<T> block(std::vector<T> const& v, int r, std::int64_t count) {
    return {v.begin() + r * count, v.begin() + (r + 1) * count};
}

template <class T>
void check_reductions(plait::Communicator& c, std::int64_t count, plait::Combine how) {
    using namespace plait;
    int n = c.size(), r = c.rank();
    auto what = fmt::format("{} of {} {} over {} ranks", name_of(how), count, name_of(dtype_of<T>), n);
    auto want = combined<T>(n, count, how);
    auto in = values<T>(r, count), out = in;
    c.all_reduce(std::span(out), how).wait();
    expect(same_bits(out, want), "all_reduce in place: {}", what);
    std::fill(out.begin(), out.end(), T{});
    c.all_reduce(std::span(in), std::span(out), how).wait();
    expect(same_bits(out, want) && same_bits(in, values<T>(r, count)), "all_reduce: {}", what);

    auto long_want = block(combined<T>(n, n * count, how), r, count);
    auto long_in = values<T>(r, n * count);
    std::fill(out.begin(), out.end(), T{});
    c.reduce_scatter(std::span(long_in), std::span(out), how).wait();
    expect(same_bits(out, long_want), "reduce_scatter: {}", what);
    auto own =
        std::span(long_in).subspan(static_cast<std::size_t>(r * count), static_cast<std::size_t>(count));
    c.reduce_scatter(std::span(long_in), own, how).wait();
    expect(same_bits(block(long_in, r, count), long_want), "reduce_scatter in place: {}", what);
}

template <class T>
void check_copies(plait::Communicator& c, std::int64_t count) {
    using namespace plait;
    int n = c.size(), r = c.rank();
    auto what = fmt::format("{} {} over {} ranks", count, name_of(dtype_of<T>), n);
    std::vector<T> all;
    for (int s = 0; s < n; ++s) {
        auto v = values<T>(s, count);
        all.insert(all.end(), v.begin(), v.end());
    }
    auto in = values<T>(r, count);
    std::vector<T> out(all.size());
    c.all_gather(std::span(in), std::span(out)).wait();
    expect(same_bits(out, all), "all_gather: {}", what);
    std::fill(out.begin(), out.end(), T{});
    auto own = std::span(out).subspan(static_cast<std::size_t>(r * count), static_cast<std::size_t>(count));
    std::copy(in.begin(), in.end(), own.begin());
    c.all_gather(own, std::span(out)).wait();
    expect(same_bits(out, all), "all_gather in place: {}", what);

    auto rows = values<T>(r, n * count);
    c.all_to_all(std::span(rows), std::span(out)).wait();
    for (int s = 0; s < n; ++s) {
        expect(same_bits(block(out, s, count), block(values<T>(s, n * count), r, count)), "all_to_all: {}",
               what);
    }
    for (int root = 0; root < n; ++root) {
        auto data = values<T>(r, count);
        c.broadcast(std::span(data), root).wait();
        expect(same_bits(data, values<T>(root, count)), "broadcast from {}: {}", root, what);
    }
    // A ring both ways, sent before anything is received, with a collective between.
    if (n == 1) return;
    int next = (r + 1) % n, before = (r + n - 1) % n;
    auto up = values<T>(r, count), down = values<T>(r + n, count);
    std::vector<T> from_below(up.size()), from_above(up.size());
    auto sent_up = c.send(std::span(up), next);
    auto sent_down = c.send(std::span(down), before);
    auto barrier = c.barrier();
    auto got_up = c.recv(std::span(from_below), before);
    auto got_down = c.recv(std::span(from_above), next);
    got_down.wait(), got_up.wait(), barrier.wait(), sent_up.wait(), sent_down.wait();
    expect(
        same_bits(from_below, values<T>(before, count)) && same_bits(from_above, values<T>(next + n, count)),
        "send and recv: {}", what);
}

/// Many calls under way at one time, waited for in another order.
inline void check_asynchronous(plait::Communicator& c) {
    using namespace plait;
    constexpr int calls = 50;
    std::vector<std::vector<float>> data;
    for (int i = 0; i < calls; ++i) data.push_back(values<float>(c.rank(), 10 + i));
    std::vector<Pending> pending;
    for (auto& v : data) pending.push_back(c.all_reduce(std::span(v), Combine::sum));
    for (int i = calls - 1; i >= 0; --i) {
        auto at = static_cast<std::size_t>(i);
        pending[at].wait();
        expect(same_bits(data[at], combined<float>(c.size(), 10 + i, Combine::sum)), "call {} of many", i);
    }
}

/// Rows and columns of a grid, nested, in another order, and a rank that is left out.
inline void check_split(plait::Communicator& c) {
    using namespace plait;
    int n = c.size(), r = c.rank();
    auto reversed = c.split(0, n - r, "reversed");
    expect(reversed->size() == n && reversed->rank() == n - 1 - r && reversed->name() == "reversed",
           "split by key");
    auto column = c.split(r % 2, r, "column");
    std::vector<std::int64_t> mine{r}, all(static_cast<std::size_t>(column->size()));
    column->all_gather(std::span(mine), std::span(all)).wait();
    for (int i = 0; i < column->size(); ++i)
        expect(all[static_cast<std::size_t>(i)] == 2 * i + r % 2, "a column");
    auto nested = column->split(column->rank() / 2, 0, "nested");
    expect(nested->size() == std::min(2, column->size() - column->rank() / 2 * 2), "a split of a split");
    check_reductions<float>(*nested, 33, Combine::sum);
    check_reductions<float>(*reversed, 33, Combine::sum);
    auto some = c.split(r == 0 ? -1 : 1, 0, "some");
    expect((some == nullptr) == (r == 0), "a negative color makes no communicator");
    if (some) check_copies<float>(*some, 3);
    // A part that an exception ends is nobody's failure where the exception is caught.
    try {
        auto unwound = c.split(0, 0, "unwound");
        throw r;
    } catch (int) {}
    c.barrier().wait();
}

/// Sent bytes against the closed forms, verb by verb; `count` need not be divided by the ranks.
inline void check_traffic(plait::Communicator& c, std::int64_t count) {
    using namespace plait;
    std::int64_t n = c.size(), r = c.rank(), b = 2 * count;
    auto [first, last] = part_of(count, c.rank(), c.size());
    std::vector<Bf16> one(static_cast<std::size_t>(count)), many(static_cast<std::size_t>(count * n)),
        other = many;
    auto sends = [&](Verb verb, std::int64_t bytes, Pending pending) {
        pending.wait();
        std::vector<TrafficRow> want{{verb, verb == Verb::barrier ? u8 : bf16, 1, n == 1 ? 0 : bytes}};
        auto rows = c.traffic();
        expect(rows == want, "{} of {} elements on rank {} of {} sends {} bytes, not {}", name_of(verb),
               count, r, n, total_bytes(rows), bytes);
        c.reset_traffic();
    };
    c.barrier().wait();
    c.reset_traffic();
    sends(Verb::all_reduce, b + (n - 2) * 2 * (last - first), c.all_reduce(std::span(one), Combine::sum));
    sends(Verb::reduce_scatter, (n - 1) * b, c.reduce_scatter(std::span(many), std::span(one), Combine::max));
    sends(Verb::all_gather, (n - 1) * b, c.all_gather(std::span(one), std::span(many)));
    sends(Verb::all_to_all, (n - 1) * b, c.all_to_all(std::span(many), std::span(other)));
    sends(Verb::broadcast, r == 0 ? (n - 1) * b : 0, c.broadcast(std::span(one), 0));
    sends(Verb::barrier, 0, c.barrier());
    if (n > 1 && r == 0) sends(Verb::send, b, c.send(std::span(one), 1));
    if (n > 1 && r == 1) sends(Verb::recv, 0, c.recv(std::span(one), 0));
    auto half = c.split(static_cast<int>(r / 2), 0, "half");
    half->all_gather(std::span(one), std::span(many).first(static_cast<std::size_t>(count * half->size())))
        .wait();
    expect(total_bytes(half->traffic()) == (half->size() - 1) * b, "each communicator counts for itself");
    expect(total_bytes(c.traffic()) == 0, "a split is not payload");
}

/// All of the above.
inline void check_verbs(plait::Communicator& c) {
    using namespace plait;
    for (std::int64_t count : {0, 1, 5, 64, 5000}) {
        for (auto how : {Combine::sum, Combine::max}) {
            check_reductions<float>(c, count, how);
            check_reductions<Bf16>(c, count, how);
            check_reductions<double>(c, count, how);
            check_reductions<std::int32_t>(c, count, how);
        }
        check_reductions<std::int64_t>(c, count, Combine::integer_sum);
        check_copies<float>(c, count);
        check_copies<std::uint8_t>(c, count);
    }
    check_reductions<float>(c, 150'001, Combine::sum);
    check_copies<float>(c, 150'001);
    check_asynchronous(c);
    check_split(c);
    check_traffic(c, 64);
    check_traffic(c, 7);
    check_traffic(c, 300'001);
}

}  // namespace tests
