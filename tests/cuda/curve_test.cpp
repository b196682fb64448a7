// Runs on a GPU's backend against PyTorch's; tests/golden/make.py makes the files.
#ifdef PLAIT_HAS_JSON

#include "machines.hpp"

#include "models/golden.hpp"

using namespace tests;

namespace {

/// f(Model, file) of both families.
template <class F>
void with_curves(F const& f) {
    f.template operator()<models::Gpt2>("gpt2_curve");
    f.template operator()<models::Llama>("llama_curve");
}

}  // namespace

TEST_CASE("the first steps on a GPU's backend follow PyTorch's") {
    with_curves([]<class Model>(std::string const& file) {
        Golden golden(file);
        INFO(file);
        auto curve = [&](DType compute) {
            return curve_of<Model>(golden, Plan().compute(compute), adam_of(golden), host_device(), 4);
        };
        CHECK(distance_from(golden, curve(f32)) < 1e-4);
        CHECK(distance_from(golden, curve(bf16)) < 1e-2);
    });
}

TEST_CASE("200 steps on a GPU follow PyTorch's") {
    auto const own = gpu_device(), fastest = gpu_device({}, true);
    with_curves([&]<class Model>(std::string const& file) {
        Golden golden(file);
        INFO(file);
        for (auto const& gpu : {own, fastest}) {
            auto curve = [&](DType compute) {
                return curve_of<Model>(golden, Plan().compute(compute), adam_of(golden), gpu, 200);
            };
            CHECK(distance_from(golden, curve(f32)) < 1e-3);
            CHECK(distance_from(golden, curve(bf16), 5) < 2e-2);
        }
    });
}

#endif
