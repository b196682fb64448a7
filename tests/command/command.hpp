#pragma once

#include "catch.hpp"
#include "scratch.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using Arguments = std::vector<std::string>;

inline Arguments operator+(Arguments a, Arguments const& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

/// What a finished command left.
struct Finished {
    int code = -1;  // 128 + signal when one ended it
    std::string out, err;
    long most_kib = 0;  // largest resident size
};

/// The command, running, with its output in files of `folder`.
class Process {
  public:
    Process(Arguments const& arguments, std::filesystem::path const& directory,
            char const* program = PLAIT_COMMAND) {
        auto text = [&](char const* name) { return (folder_ / name).string(); };
        auto out = text("out"), err = text("err");
        std::vector<char*> argv{const_cast<char*>(program)};
        for (auto const& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
        argv.push_back(nullptr);
        id_ = ::fork();
        REQUIRE(id_ >= 0);
        if (id_ == 0) {
            int o = ::open(out.c_str(), O_WRONLY | O_CREAT, 0666),
                e = ::open(err.c_str(), O_WRONLY | O_CREAT, 0666);
            if (::chdir(directory.c_str()) != 0 || ::dup2(o, 1) < 0 || ::dup2(e, 2) < 0) ::_exit(99);
            ::execv(program, argv.data());
            ::_exit(98);
        }
    }
    ~Process() {
        if (id_ <= 0) return;
        ::kill(id_, SIGKILL);
        ::waitpid(id_, nullptr, 0);
    }
    Process(Process const&) = delete;
    Process& operator=(Process const&) = delete;

    void signal(int number) { ::kill(id_, number); }

    Finished wait() {
        Finished f;
        int status = 0;
        rusage used{};
        REQUIRE(::wait4(id_, &status, 0, &used) == id_);
        id_ = 0;
        f.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        f.out = get_text(folder_ / "out");
        f.err = get_text(folder_ / "err");
        f.most_kib = used.ru_maxrss;
        return f;
    }

  private:
    ScratchFolder folder_;
    pid_t id_ = 0;
};

/// Runs the command to its end.
inline Finished plait(Arguments const& arguments, std::filesystem::path const& directory = SOURCE_DIR) {
    return Process(arguments, directory).wait();
}

/// A variable of the environment of the processes that are started while it lives.
class EnvironmentVariable {
  public:
    EnvironmentVariable(char const* name, char const* value) : name_(name) { ::setenv(name, value, 1); }
    ~EnvironmentVariable() { ::unsetenv(name_); }
    EnvironmentVariable(EnvironmentVariable const&) = delete;
    EnvironmentVariable& operator=(EnvironmentVariable const&) = delete;

  private:
    char const* name_;
};

/// The command by mpirun, running: `ranks` processes of each list of arguments, in the folder that is its own
/// where there are some.
inline std::unique_ptr<Process> start_mpi(int ranks, std::vector<Arguments> const& programs,
                                          std::vector<std::filesystem::path> const& folders = {}) {
#if defined(PLAIT_HAS_MPI) && defined(PLAIT_MPIEXEC)
    // More ranks than cores, in a container, as root: Open MPI has to be asked.
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    ::setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
    EnvironmentVariable const no_leaks("LSAN_OPTIONS", "detect_leaks=0");  // Open MPI's own
    Arguments all;
    for (std::size_t i = 0; i < programs.size(); ++i) {
        if (!all.empty()) all.push_back(":");
        all = all + Arguments{"-n", std::to_string(ranks)};
        if (i < folders.size()) all = all + Arguments{"-wdir", folders[i].string()};
        all = all + Arguments{PLAIT_COMMAND} + programs[i];
    }
    return std::make_unique<Process>(all, SOURCE_DIR, PLAIT_MPIEXEC);
#else
    (void)ranks, (void)programs, (void)folders;
    SKIP("no MPI, or no mpirun");
    return nullptr;
#endif
}

/// The same, and its exit code must be 0.
inline Finished good(Arguments const& arguments, std::filesystem::path const& directory = SOURCE_DIR) {
    auto f = plait(arguments, directory);
    INFO(f.out << f.err);
    REQUIRE(f.code == 0);
    CHECK(f.err.empty());
    return f;
}

/// The exit code must be `code`, and at most three lines tell `message` on standard error.
inline void refused(int code, std::string const& message, Arguments const& arguments,
                    std::filesystem::path const& directory = SOURCE_DIR) {
    auto f = plait(arguments, directory);
    CAPTURE(arguments);
    CHECK(f.code == code);
    CHECK_THAT(f.err, ContainsSubstring(message));
    CHECK(std::count(f.err.begin(), f.err.end(), '\n') <= 3);
    CHECK(f.err.starts_with("plait"));
}

inline std::vector<std::string> lines_of(std::string const& text) {
    std::vector<std::string> lines;
    for (std::size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
    }
    return lines;
}

/// The text of a key's value in one row of metrics.jsonl, without quotes; "" without the key.
inline std::string value_in(std::string const& row, std::string const& key) {
    auto name = "\"" + key + "\": ";
    auto at = row.find(name);
    if (at == std::string::npos) return "";
    auto value = row.substr(at + name.size());
    value.resize(value.find_first_of(",}"));
    std::erase(value, '"');
    return value;
}

/// One key of every row that has it.
inline std::vector<std::string> column(std::filesystem::path const& run, std::string const& key) {
    std::vector<std::string> values;
    for (auto const& row : lines_of(get_text(run / "metrics.jsonl")))
        if (auto v = value_in(row, key); !v.empty()) values.push_back(v);
    return values;
}

/// Waits until the run has written the row of `step`.
inline void await_step(std::filesystem::path const& run, int step) {
    for (int i = 0; i < 10000; ++i) {
        auto steps = column(run, "step");
        if (std::find(steps.begin(), steps.end(), std::to_string(step)) != steps.end()) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL("step " << step << " has not come within 100 s");
}

/// Arguments of a run of a second: two thin layers on the text that the examples train on.
inline Arguments small_run(std::filesystem::path const& out, Arguments const& more = {}) {
    return Arguments{"train",
                     "--hash",
                     "--data.path=examples/text",
                     "--data.batch=4",
                     "--data.seq=32",
                     "--model.dim=32",
                     "--model.layers=2",
                     "--model.heads=2",
                     "--run.steps=10",
                     "--run.out=" + out.string()} +
           more;
}
