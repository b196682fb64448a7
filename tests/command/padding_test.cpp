#ifdef PLAIT_COMMAND

#include "command.hpp"

#include <cmath>

namespace {

/// A vocabulary that no axis divides.
Arguments odd_run(std::filesystem::path const& out, Arguments const& more) {
    return small_run(out, Arguments{"--data.batch=8", "--model.heads=4", "--model.vocab=257",
                                    "--plan.bits_granularity.tensor=4"} +
                              more);
}
Arguments const lines{"--plan.lines=[\"megatron tensor\"]"};
Arguments const four{"--mesh", "tensor=4", "--cluster", "threads:4"};

void same(std::filesystem::path const& a, std::filesystem::path const& b) {
    for (auto const* key : {"loss", "grad_norm", "params_hash"}) {
        INFO(key);
        CHECK(column(a, key).size() >= 10);
        CHECK(column(a, key) == column(b, key));
    }
}

}  // namespace

TEST_CASE("a vocabulary that no axis divides is padded, which is said and changes nothing") {
    ScratchFolder folder;
    auto const plain = good(odd_run(folder / "plain", {}));
    CHECK_THAT(plain.out, !ContainsSubstring("padded"));
    auto const padded = good(odd_run(folder / "padded", lines));
    CHECK_THAT(padded.out, ContainsSubstring("note    vocabulary 257, padded to 260\n"));
    same(folder / "plain", folder / "padded");
    good(odd_run(folder / "four", lines + four));
    auto const want = column(folder / "plain", "loss"), got = column(folder / "four", "loss");
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i)
        CHECK(std::abs(std::stod(got[i]) - std::stod(want[i])) < 1e-4);
    auto parameters = [](std::string const& out) {
        auto const at = out.find("heads; ");
        return out.substr(at, out.find('\n', at) - at);
    };
    CHECK(parameters(padded.out) == parameters(plain.out));
    CHECK_THAT(good(odd_run(folder / "dry", lines + Arguments{"--dry-run"})).out,
               ContainsSubstring("vocabulary  257, padded to 260\n"));
}

TEST_CASE("a padded vocabulary has the same bits on every size of the tensor axis") {
    ScratchFolder folder;
    auto const layout = lines + Arguments{"--bits", "layout"};
    good(odd_run(folder / "one", layout));
    good(odd_run(folder / "four", layout + four));
    same(folder / "one", folder / "four");
}

TEST_CASE("a run with a padded vocabulary generates, and goes on with other padding") {
    ScratchFolder folder;
    good(odd_run(folder / "a", lines + four + Arguments{"--checkpoint.every=5"}));
    auto const text =
        good({"generate", (folder / "a").string(), "--quiet", "--tokens", "200", "--temperature", "9"});
    CHECK(text.out.size() > 100);
    auto const on = good(odd_run(
        folder / "a", lines + Arguments{"--resume", "--run.steps=15", "--plan.bits_granularity.tensor=8"}));
    CHECK_THAT(on.out, ContainsSubstring("padded to 264"));
    CHECK(column(folder / "a", "loss").size() == 15);
    good(odd_run(folder / "a", Arguments{"--resume", "--run.steps=17"}));
    CHECK(column(folder / "a", "loss").size() == 17);
}

TEST_CASE("two layouts with other padding are compared without it") {
    Arguments const sides{"bisect",
                          "--data.path=examples/text",
                          "--data.batch=8",
                          "--data.seq=16",
                          "--model.dim=32",
                          "--model.layers=1",
                          "--model.heads=4",
                          "--model.vocab=257",
                          "--plan.lines=[\"megatron tensor\"]",
                          "--plan.bits_granularity.tensor=2",
                          "--steps",
                          "2",
                          "--a",
                          "--mesh tensor=4 --cluster threads:4",
                          "--b"};
    good(sides + Arguments{"--mesh tensor=2 --cluster threads:2"});
    good(sides + Arguments{"--plan.lines=[]"});
}

#endif
