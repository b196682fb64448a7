// Learning a tokenizer from a text, and encoding the text with it. Writes --out, a tokenizer.json, and prints
// one JSON line with the keys of peers/tokenizers_run.py. Counting runs on --threads, the rest on one.
#include "plait/data/tokenizer.hpp"
#include "options.hpp"
#include "plait/cpu/thread_pool.hpp"
#include "plait/io/file.hpp"

using namespace plait;
using namespace plait::benchmark;

namespace {

constexpr std::size_t document = 20'000;  // bytes

constexpr char usage[] = "usage: tokenizer --text FILE --out FILE [--vocabulary N] [--threads N]";

struct Asked {
    std::string text, out;
    std::int64_t vocabulary = 8192, threads = 1;
};

Asked parse(int argc, char** argv) {
    Asked o;
    Options{"tokenizer",
            usage,
            {},
            {{"--text", &o.text}, {"--out", &o.out}},
            {{"--vocabulary", &o.vocabulary}, {"--threads", &o.threads, 0}}}
        .read(argc, argv);
    check<UsageError>(!o.text.empty() && !o.out.empty(), "tokenizer: --text and --out are needed\n{}", usage);
    return o;
}

std::vector<CountedPiece> counted(std::vector<PieceCounter>& counters, std::string_view text,
                                  ThreadPool& pool) {
    auto const documents = (text.size() + document - 1) / document;
    pool.run(static_cast<std::int64_t>(documents), [&](std::int64_t i, int worker) {
        counters[static_cast<std::size_t>(worker)].add(
            text.substr(static_cast<std::size_t>(i) * document, document));
    });
    for (; counters.size() > 1; counters.pop_back()) counters[0].add(counters.back());
    return counters[0].pieces();
}

void run(Asked const& o) {
    auto const text = read_file(o.text);
    auto const megabytes = static_cast<double>(text.size()) / 1e6;
    Splitter const splitter{std::string(gpt4_pattern)};
    ThreadPool pool(static_cast<int>(o.threads));
    std::vector<PieceCounter> counters(static_cast<std::size_t>(pool.workers()), PieceCounter(splitter));
    std::vector<CountedPiece> pieces;
    std::string json;
    auto const counting = seconds([&] { pieces = counted(counters, text, pool); });
    auto const learning = seconds([&] { json = train_tokenizer(pieces, o.vocabulary).json(); });
    write_file_atomically(o.out, json);
    auto const tokenizer = Tokenizer::load(o.out);
    std::vector<std::uint32_t> tokens;
    auto encoding = 1e9;
    for (int i = 0; i < 3; ++i) {
        tokens.clear();
        Encoder encoder(tokenizer);
        encoding = std::min(encoding, seconds([&] {
                                for (std::size_t at = 0; at < text.size(); at += document)
                                    encoder.encode(std::string_view(text).substr(at, document), tokens);
                            }));
    }
    fmt::print(
        "{{\"peer\": \"plait\", \"threads\": {}, \"megabytes\": {:.1f}, \"count_s\": {:.2f}, "
        "\"merges_s\": {:.2f}, \"learn_s\": {:.2f}, \"encode_mb_per_s\": {:.1f}, \"tokens\": {}}}\n",
        pool.workers(), megabytes, counting, learning, counting + learning, megabytes / encoding,
        tokens.size());
}

}  // namespace

int main(int argc, char** argv) {
    return exit_code_of([&] { run(parse(argc, argv)); });
}
