#pragma once

#include "laws/places.hpp"
#include "laws/training.hpp"

#include <utility>

namespace tests {

/// A compiled step, and what it must leave whatever the places of its values.
struct PlaceLaw {
    Training t;
    StateOffset offset;
    Ends wanted;

    explicit PlaceLaw(Training training)
        : t(std::move(training)),
          offset([this](Variable const& v) { return t.state->offset_of(v); }),
          wanted(run_sections(t.step->dumps().sections, offset)) {}
    PlaceLaw(PlaceLaw const&) = delete;

    Program const& program() const { return t.step->program(); }

    /// What is wrong with the places of `program`, a line each; empty when nothing is.
    std::string faults_of(Program const& program) const {
        SymbolRun run(program, t.state->bytes());
        auto ends = run.run(*t.state, offset);
        std::string faults;
        for (auto const& f : run.faults()) faults += f + "\n";
        for (auto const& [name, parts] : wanted)
            if (ends.at(name) != parts) faults += name + " is not what the graph says\n";
        return faults;
    }
};

/// The CPU, counting what it is asked for.
struct Counting : Backend {
    std::shared_ptr<Backend> cpu = cpu_backend(1);
    std::int64_t taken = 0;

    std::string_view name() const override { return cpu->name(); }
    KernelTable kernels() const override { return cpu->kernels(); }
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override {
        return taken += bytes, cpu->allocate(bytes);
    }
    void write(std::byte* to, std::span<std::byte const> from) override { cpu->write(to, from); }
    void read(std::span<std::byte> to, std::byte const* from) override { cpu->read(to, from); }
    void call(KernelRow const& row, KernelCall& call) override { cpu->call(row, call); }
};

}  // namespace tests
