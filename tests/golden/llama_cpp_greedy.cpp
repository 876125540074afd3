// Greedy continuations by llama.cpp's library, with what its own programs do not print: ids and distances.
//
//     llama_cpp_greedy MODEL STEPS f32|f16 < PROMPTS
//
// PROMPTS are texts that each end with a zero byte; special tokens in them are recognised, and the tokenizer adds its own.
// The last argument is the type of the key/value cache; f32 also turns flash attention off, so that nothing is rounded
// that the weights do not demand. End tokens do not end a continuation. One line of JSON for each prompt:
//
//   prompt_ids   the prompt's tokens
//   best         the eight best [id, logit] after the prompt, best first
//   ids          STEPS greedy tokens; the lowest id wins ties
//   margins      for each step, the best logit less the second best
//   bytes        the continuation's pieces joined, special tokens spelt out, in hexadecimal (they need not be UTF-8)
//
// make_llama_cpp.py compiles and runs it.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "llama.h"

static void fail(const char * what) {
    fprintf(stderr, "llama_cpp_greedy: %s\n", what);
    exit(1);
}

static std::vector<std::string> read_prompts() {
    std::vector<std::string> prompts;
    std::string text;
    for (int c; (c = getchar()) != EOF;) {
        if (c == 0) {
            prompts.push_back(text);
            text.clear();
        } else {
            text.push_back((char) c);
        }
    }
    if (!text.empty()) fail("the last prompt has no zero byte");
    return prompts;
}

static std::vector<llama_token> tokens_of(const llama_vocab * vocab, const std::string & text) {
    std::vector<llama_token> tokens(text.size() + 8);
    int n = llama_tokenize(vocab, text.data(), (int) text.size(), tokens.data(), (int) tokens.size(), true, true);
    if (n <= 0) fail("a prompt has no tokens, or too many");
    tokens.resize(n);
    return tokens;
}

static std::string piece_of(const llama_vocab * vocab, llama_token token) {
    char piece[512];
    int n = llama_token_to_piece(vocab, token, piece, sizeof piece, 0, true);
    if (n < 0) fail("a token's piece is too long");
    return std::string(piece, n);
}

static bool better(const std::pair<float, int> & a, const std::pair<float, int> & b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
}

static std::vector<std::pair<float, int>> best_of(llama_context * context, int vocab_size, int count) {
    const float * logits = llama_get_logits_ith(context, -1);
    std::vector<std::pair<float, int>> all;
    for (int id = 0; id < vocab_size; id++) all.push_back({logits[id], id});
    std::partial_sort(all.begin(), all.begin() + count, all.end(), better);
    all.resize(count);
    return all;
}

static void print_ids(const char * name, const std::vector<llama_token> & ids) {
    printf("\"%s\":[", name);
    for (size_t i = 0; i < ids.size(); i++) printf("%s%d", i ? "," : "", ids[i]);
    printf("]");
}

static void quiet(ggml_log_level level, const char * text, void *) {
    if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char ** argv) {
    if (argc != 4) fail("usage: llama_cpp_greedy MODEL STEPS f32|f16 < PROMPTS");
    const int steps = atoi(argv[2]);
    const bool exact = strcmp(argv[3], "f32") == 0;

    llama_log_set(quiet, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    llama_model * model = llama_model_load_from_file(argv[1], model_params);
    if (!model) fail("the model does not load");
    const llama_vocab * vocab = llama_model_get_vocab(model);
    const int vocab_size = llama_vocab_n_tokens(vocab);

    llama_context_params params = llama_context_default_params();
    params.n_ctx = std::min(1024, llama_model_n_ctx_train(model));
    params.n_threads = params.n_threads_batch = 1;
    params.type_k = params.type_v = exact ? GGML_TYPE_F32 : GGML_TYPE_F16;
    params.flash_attn_type = exact ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_AUTO;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) fail("no context");

    for (const std::string & prompt : read_prompts()) {
        llama_memory_clear(llama_get_memory(context), true);
        std::vector<llama_token> prompt_ids = tokens_of(vocab, prompt), input = prompt_ids, ids;
        std::vector<float> margins;
        std::vector<std::pair<float, int>> first;
        std::string bytes;
        for (int step = 0; step < steps; step++) {
            if (llama_decode(context, llama_batch_get_one(input.data(), (int) input.size()))) fail("decoding failed");
            auto best = best_of(context, vocab_size, 8);
            if (step == 0) first = best;
            ids.push_back(best[0].second);
            margins.push_back(best[0].first - best[1].first);
            bytes += piece_of(vocab, ids.back());
            input = {ids.back()};
        }
        printf("{");
        print_ids("prompt_ids", prompt_ids);
        printf(",\"best\":[");
        for (size_t i = 0; i < first.size(); i++) printf("%s[%d,%.9g]", i ? "," : "", first[i].second, first[i].first);
        printf("],");
        print_ids("ids", ids);
        printf(",\"margins\":[");
        for (size_t i = 0; i < margins.size(); i++) printf("%s%.4g", i ? "," : "", margins[i]);
        printf("],\"bytes\":\"");
        for (unsigned char c : bytes) printf("%02x", c);
        printf("\"}\n");
    }
    llama_free(context);
    llama_model_free(model);
    return 0;
}
