#include "plait/train/shared_state.hpp"

#include "plait/comm/threads.hpp"
#include "plait/train/compile.hpp"
#include "plait/train/saving.hpp"
#include "scratch.hpp"

#include <atomic>
#include <limits>
#include <map>
#include <mutex>

using namespace plait;

namespace {

/// Where the ranks keep the variables: 0 everywhere whole; 1 the optimizer's divided, 3 all of them.
struct Kept {
    int ranks = 1, zero = 0, replicas = 1;
};

std::shared_ptr<Variable> variable(std::string path, Shape shape, VariableKind kind) {
    auto v = std::make_shared<Variable>();
    v->path = std::move(path);
    v->meta = {f32, std::move(shape)};
    v->kind = kind;
    v->init = Init::normal(0.02);
    return v;
}

/// A state of this rank with memory. Dim 0 is divided over the ranks of one replica where they divide it.
std::shared_ptr<State> make_state(Kept const& layout, int rank, std::uint64_t seed = 1) {
    auto state = std::make_shared<State>(cpu_backend(1));
    std::vector<std::shared_ptr<Variable>> all;
    for (auto kind : {VariableKind::parameter, VariableKind::optimizer}) {
        std::string const more = kind == VariableKind::optimizer ? ".m" : "";
        all.push_back(variable("embed.weight" + more, {24, 5}, kind));
        all.push_back(variable("blocks.0.q.weight" + more, {12, 7}, kind));
        all.push_back(variable("blocks.0.norm.weight" + more, {7}, kind));
    }
    state->add(all);
    std::int64_t const parts = layout.ranks / layout.replicas, part = rank % parts;
    for (auto const& v : all) {
        bool const divided = layout.zero == 3 || (layout.zero == 1 && v->kind == VariableKind::optimizer);
        if (!divided || v->meta.shape[0] % parts != 0) continue;
        auto block = v->meta.shape;
        block[0] /= parts;
        Shape origin = v->meta.shape;
        for (int d = 0; d < origin.rank(); ++d) origin[d] = 0;
        origin[0] = part * block[0];
        state->set_block(*v, block, {origin, v->meta.shape});
    }
    state->set_seed(seed);
    state->allocate();
    return state;
}

constexpr Kept layouts[] = {{1, 0, 1}, {2, 0, 1}, {2, 1, 1}, {2, 3, 1}, {3, 1, 1},
                            {3, 3, 1}, {4, 0, 1}, {4, 1, 2}, {4, 3, 1}, {4, 3, 2}};

std::shared_ptr<Variable> const& named(State const& state, std::string const& path) {
    auto it = std::find_if(state.variables().begin(), state.variables().end(),
                           [&](auto const& v) { return v->path == path; });
    check(it != state.variables().end(), "no {}", path);
    return *it;
}

void put(State& state, std::string const& path, float x) {
    auto const& v = *named(state, path);
    auto a = state.read(v);
    a.values<float>()[1] = x;
    state.write(v, a);
}

bool same_values(State const& a, State const& b) {
    for (auto const& v : a.variables()) {
        auto const x = a.read(*v), y = b.read(*named(b, v->path));
        if (!std::equal(x.bytes().begin(), x.bytes().end(), y.bytes().begin(), y.bytes().end())) return false;
    }
    return true;
}

}  // namespace

TEST_CASE("the hash over ranks is that of one rank, whatever the layout") {
    auto const whole = make_state({}, 0)->parameter_hash();
    CHECK(make_state({}, 0, 2)->parameter_hash() != whole);
    for (auto const& l : layouts) {
        run_ranks(l.ranks, [&](Communicator& world) {
            SharedState shared(world, make_state(l, world.rank()));
            world.reset_traffic();
            auto hash = shared.parameter_hash();
            check(hash == whole, "ranks {}, zero {}: {:x}, not {:x}", l.ranks, l.zero, hash, whole);
            check(world.traffic().size() == 1 && world.traffic()[0].calls == 1, "more than one collective");
        });
    }
}

TEST_CASE("every variable is gathered whole on rank 0, whatever the layout") {
    auto const whole = make_state({}, 0);
    for (auto const& l : layouts) {
        run_ranks(l.ranks, [&](Communicator& world) {
            auto const state = make_state(l, world.rank());
            SharedState shared(world, state);
            for (auto const& v : state->variables()) {
                auto const got = shared.gather(*v);
                check(static_cast<bool>(got) == (world.rank() == 0), "{} is on rank {}", v->path,
                      world.rank());
                if (!got) continue;
                auto const wanted = whole->read(*named(*whole, v->path));
                check(got.meta() == wanted.meta() &&
                          std::equal(got.bytes().begin(), got.bytes().end(), wanted.bytes().begin()),
                      "ranks {}, zero {}: {} differs", l.ranks, l.zero, v->path);
            }
        });
    }
}

TEST_CASE("one changed weight of one rank is named with its tensor and two ranks, or changes the hash") {
    auto const whole = make_state({}, 0)->parameter_hash();
    std::string const path = "blocks.0.q.weight";
    for (auto const& l : layouts) {
        std::atomic<int> told{0}, changed{0};
        run_ranks(l.ranks, [&](Communicator& world) {
            auto state = make_state(l, world.rank());
            if (world.rank() == l.ranks - 1) put(*state, path, 0.5f);
            SharedState shared(world, state);
            try {
                changed += shared.parameter_hash() != whole;
            } catch (AgreedError const& e) {
                // Of the replicas of the last rank, the first one.
                int const first = l.zero == 3 ? l.ranks / l.replicas - 1 : 0;
                told += contains(e.what(), fmt::format("parameter '{}': rank {} and rank {} should hold",
                                                       path, first, l.ranks - 1));
            }
        });
        bool const copies = l.ranks > 1 && (l.zero != 3 || l.replicas > 1);
        INFO("ranks " << l.ranks << ", zero " << l.zero << ", replicas " << l.replicas);
        CHECK(told == (copies ? l.ranks : 0));
        CHECK(changed == (copies ? 0 : l.ranks));
    }
}

TEST_CASE("a weight that is not finite stops all ranks, named by the rank that has it") {
    for (auto const& l : layouts) {
        std::atomic<int> told{0};
        run_ranks(l.ranks, [&](Communicator& world) {
            auto state = make_state(l, world.rank());
            int const who = l.ranks / 2;
            if (world.rank() == who) put(*state, "embed.weight", std::numeric_limits<float>::quiet_NaN());
            SharedState shared(world, state);
            auto message = message_of<AgreedError>([&] { shared.parameter_hash(); });
            auto wanted = fmt::format("{}parameter 'embed.weight' is not finite",
                                      l.ranks > 1 ? fmt::format("rank {}: ", who) : "");
            told += message.starts_with(wanted);
        });
        CHECK(told == l.ranks);
    }
}

TEST_CASE("ranks with other variables are refused") {
    std::atomic<int> told{0};
    run_ranks(2, [&](Communicator& world) {
        auto state = std::make_shared<State>(cpu_backend(1));
        state->add({variable(world.rank() ? "a" : "b", {2}, VariableKind::parameter)});
        told += contains(message_of<AgreedUsageError>([&] { SharedState(world, state); }), "the variables");
    });
    CHECK(told == 2);
}

TEST_CASE("every distinct block is written by one of its holders, and all ranks have a share") {
    for (auto const& l : layouts) {
        std::mutex mutex;
        std::map<std::string, int> written;
        std::vector<int> of_rank(static_cast<std::size_t>(l.ranks));
        run_ranks(l.ranks, [&](Communicator& world) {
            auto state = make_state(l, world.rank());
            SharedState shared(world, state);
            std::lock_guard lock(mutex);
            for (auto const& v : state->variables()) {
                if (!shared.writes(*v)) continue;
                ++of_rank[static_cast<std::size_t>(world.rank())];
                ++written[v->path + " at " + to_string(state->place_of(*v).origin)];
            }
        });
        for (auto const& [block, times] : written) CHECK(times == 1);
        std::size_t blocks = 0;
        auto one = make_state(l, 0);
        for (auto const& v : one->variables())
            blocks += static_cast<std::size_t>(v->meta.elements() / one->block_of(*v).elements());
        CHECK(written.size() == blocks);
        for (int n : of_rank) CHECK(n > 0);
    }
}

TEST_CASE("a checkpoint of any layout continues on any other with the same values") {
    for (auto const& from : layouts) {
        ScratchFolder folder;
        run_ranks(from.ranks, [&](Communicator& world) {
            SharedState shared(world, make_state(from, world.rank(), 7));
            Manifest manifest;
            manifest.step = 3;
            manifest.strings["layout"] = "some";
            auto saved = save_checkpoint(shared, folder.path(), manifest, 2);
            check(saved == folder / "checkpoints" / "step-00000003", "saved in {}", saved.string());
        });
        auto found = find_checkpoint(folder.path());
        REQUIRE(found.checkpoint);
        CHECK(found.checkpoint->manifest.files.size() == 2 * static_cast<std::size_t>(from.ranks));
        for (auto const& to : layouts) {
            run_ranks(to.ranks, [&](Communicator& world) {
                // Rank 0 alone has looked.
                auto c = share_checkpoint(world, world.rank() == 0 ? found.checkpoint : std::nullopt);
                check(c && c->manifest.step == 3, "not shared");
                SharedState shared(world, make_state(to, world.rank(), 1));
                restore_checkpoint(shared, *c);
                auto wanted = make_state(to, world.rank(), 7);
                check(same_values(shared.state(), *wanted), "from {} ranks zero {} to {} ranks zero {}",
                      from.ranks, from.zero, to.ranks, to.zero);
                check(!same_values(shared.state(), *make_state(to, world.rank(), 1)), "nothing was read");
            });
        }
    }
    run_ranks(3, [](Communicator& world) { check(!share_checkpoint(world, {}), "there is none"); });
}

TEST_CASE("a save that fails on one rank fails on all, and leaves what was saved and nothing aside") {
    ScratchFolder folder;
    auto const checkpoints = folder / "checkpoints";
    // Gives what every rank threw.
    auto save = [&](std::int64_t step, int keep, int misplaced, std::filesystem::path const& run) {
        Kept const l{3, 3, 1};
        std::vector<std::string> told(3);
        run_ranks(l.ranks, [&](Communicator& world) {
            auto state = make_state(l, world.rank());
            if (misplaced >= 0) {
                auto v = variable("a", {6}, VariableKind::parameter);
                state = std::make_shared<State>(cpu_backend(1));
                state->add({v});
                // A block that reaches beyond its tensor cannot be written.
                if (world.rank() == misplaced) state->set_block(*v, {4}, {{4}, {6}});
                state->allocate();
            }
            SharedState shared(world, state);
            Manifest manifest;
            manifest.step = step;
            told[static_cast<std::size_t>(world.rank())] =
                message_of<Error>([&] { save_checkpoint(shared, run, manifest, keep); });
            world.barrier().wait();
        });
        CHECK(told[1] == told[0]);
        CHECK(told[2] == told[0]);
        return told[0];
    };
    auto names = [&] {
        std::vector<std::string> all;
        for (auto const& entry : std::filesystem::directory_iterator(checkpoints))
            all.push_back(entry.path().filename().string());
        std::sort(all.begin(), all.end());
        return all;
    };
    std::vector<std::string> const before{"latest", "step-00000001"};
    CHECK(save(1, 2, -1, folder.path()).empty());
    CHECK(names() == before);
    CHECK(save(2, 2, 2, folder.path()).starts_with("rank 2: "));
    CHECK(names() == before);
    CHECK(contains(save(2, 0, -1, folder.path()), "rank 0: checkpoint.keep is 0"));
    CHECK(names() == before);
    put_text(folder / "other" / "checkpoints", "a file");
    CHECK(save(2, 2, -1, folder / "other").starts_with("rank 0: "));
    CHECK(find_checkpoint(folder.path()).checkpoint->manifest.step == 1);
}
