//! The loop, with a network of ten lines that counts: after token t comes t + 1.

use super::*;
use crate::backend::Batch;
use crate::backend::{CacheType, KvCache};
use crate::model::Forward;
use crate::options::{Cancel, Overflow};
use crate::quant::Dtype;
use crate::sample::SampleOptions;
use crate::text::Message;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

mod ask;
mod step;

/// Prefers the token after the last one, and counts the tokens it was given.
struct Counter {
    spec: Spec,
    read: Arc<AtomicUsize>,
}

impl Forward for Counter {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache(&self, limit: usize) -> Result<KvCache> {
        Ok(KvCache::new(Vec::new(), limit))
    }

    fn hidden(&self, _: &Batch, _: &mut [&mut KvCache], _: &mut Vec<f32>) -> Result<()> {
        unreachable!("the loop asks for logits")
    }

    fn logits(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()> {
        for (i, cache) in caches.iter_mut().enumerate() {
            cache.reserve(batch.rows(i).len())?;
            cache.advance(batch.rows(i).len());
        }
        self.read.fetch_add(batch.tokens.len(), Ordering::Relaxed);
        out.clear();
        for row in &batch.outputs {
            let next = (batch.tokens[*row] as usize + 1) % self.spec.vocab;
            out.extend((0..self.spec.vocab).map(|t| if t == next { 9.0 } else { 0.0 }));
        }
        Ok(())
    }
}

/// A model that counts, with the tokenizer and chat template of a golden case.
fn counter() -> (Model, Arc<AtomicUsize>) {
    counter_of(64)
}

fn counter_of(context: usize) -> (Model, Arc<AtomicUsize>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama-gqa-tied");
    let options = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let real = crate::Checkpoint::open(&folder).unwrap().load(&options).unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let network = Counter { spec: real.network.spec().clone(), read: read.clone() };
    (Model::from_inner(Loaded { network: Box::new(network), context, end_ids: vec![400], ..real }), read)
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { sampling: SampleOptions::greedy(), max_tokens: Some(max_tokens), ..GenerateOptions::default() }
}

fn tokens(generation: &mut Generation) -> Vec<u32> {
    generation.text().unwrap();
    generation.tokens().to_vec()
}

#[test]
fn a_generation_counts_up_to_its_limit_and_reads_each_token_once() {
    let (model, read) = counter();
    let mut session = model.session().unwrap();
    let mut run = session.generate_tokens(&[10, 11, 12], &greedy(4)).unwrap();
    assert_eq!(tokens(&mut run), [13, 14, 15, 16]);
    assert_eq!(run.done_reason(), Some(DoneReason::Length));
    assert_eq!((run.usage().prompt_tokens, run.usage().tokens), (3, 4));
    // The last token is not read: nothing was asked of it.
    assert_eq!(read.load(Ordering::Relaxed), 3 + 3);
    assert_eq!(session.tokens(), [10, 11, 12, 13, 14, 15, 16]);
}

#[test]
fn an_end_token_ends_the_text_and_is_not_kept() {
    let (model, _) = counter();
    let mut session = model.session().unwrap();
    let mut run = session.generate_tokens(&[397], &greedy(9)).unwrap();
    assert_eq!(tokens(&mut run), [398, 399]);
    assert_eq!(run.done_reason(), Some(DoneReason::Stop));
    assert_eq!(run.usage().tokens, 3);
    assert_eq!(session.tokens(), [397, 398, 399]);
    let ignoring = GenerateOptions { ignore_eos: true, ..greedy(4) };
    assert_eq!(tokens(&mut model.session().unwrap().generate_tokens(&[397], &ignoring).unwrap()), [398, 399, 400, 401]);
}

#[test]
fn dropping_a_generation_keeps_what_was_generated_and_the_session_goes_on_from_there() {
    let (model, _) = counter();
    let mut session = model.session().unwrap();
    session.generate_tokens(&[10], &greedy(9)).unwrap().take(2).for_each(|piece| drop(piece.unwrap()));
    assert_eq!(session.tokens(), [10, 11, 12]);
    assert_eq!(tokens(&mut session.generate_tokens(&[], &greedy(2)).unwrap()), [13, 14]);
}

#[test]
fn a_batch_writes_each_text_as_it_would_be_alone_whoever_joins_and_leaves() {
    let (model, read) = counter();
    let prompts = ["The river", "And then the river runs north", "x", "It ends"];
    let options = |i: usize| greedy([3, 9, 5, 4][i]);
    let alone = |i: usize| tokens(&mut model.session().unwrap().generate(prompts[i], &options(i)).unwrap());
    let expected: Vec<_> = (0..4).map(alone).collect();
    let mut batch = model.generate_batch();
    let mut texts = vec![String::new(); 4];
    let mut take = |pieces: Vec<(usize, Result<Piece>)>| {
        pieces.into_iter().for_each(|(i, piece)| texts[i].push_str(&piece.unwrap().text));
    };
    assert_eq!(batch.join(prompts[0], &options(0)).unwrap(), 0);
    assert_eq!(batch.join(prompts[1], &options(1)).unwrap(), 1);
    take(batch.step().unwrap());
    take(batch.step().unwrap());
    assert_eq!(batch.join(prompts[2], &options(2)).unwrap(), 2);
    take(batch.step().unwrap());
    // Number 1 leaves in the middle, with what it has read.
    let left = batch.leave(1).unwrap();
    assert!(left.tokens().ends_with(&expected[1][..3]), "{:?}", left.tokens());
    assert!(batch.leave(1).is_none() && batch.usage(1).is_none());
    read.store(0, Ordering::Relaxed);
    assert_eq!(batch.join(prompts[3], &options(3)).unwrap(), 3);
    let steps = std::iter::from_fn(|| (batch.running() > 0).then(|| take(batch.step().unwrap()))).count();
    // Numbers 0, 2 and 3 read 1, 3 and 3 of their tokens, and number 3 its prompt; the longest takes four steps and one to see
    // that it is done.
    let prompt = batch.usage(3).unwrap().prompt_tokens;
    assert_eq!((steps, read.load(Ordering::Relaxed)), (5, 1 + 3 + 3 + prompt));
    for i in [0, 2, 3] {
        assert_eq!(batch.tokens(i).unwrap(), expected[i], "{i}");
        assert_eq!(batch.done_reason(i), Some(DoneReason::Length));
        assert_eq!(batch.usage(i).unwrap().tokens, expected[i].len());
        let text = model.session().unwrap().generate(prompts[i], &options(i)).unwrap().text().unwrap();
        assert_eq!(texts[i], text);
    }
}

#[test]
fn a_text_of_a_batch_that_can_not_go_on_ends_with_its_error_and_the_others_lose_nothing() {
    let (model, _) = counter();
    let forbidden = (0..model.spec().vocab as u32).map(|token| (token, f32::NEG_INFINITY)).collect();
    let stuck = GenerateOptions { sampling: SampleOptions { logit_bias: forbidden, ..SampleOptions::greedy() }, ..greedy(9) };
    let mut batch = model.generate_batch();
    batch.join("The river", &greedy(6)).unwrap();
    let (mut text, mut errors) = (String::new(), 0);
    for step in 0.. {
        if step == 2 {
            assert_eq!(batch.join("x", &stuck).unwrap(), 1);
        }
        if batch.running() == 0 {
            break;
        }
        for (number, piece) in batch.step().unwrap() {
            match piece {
                Ok(piece) => text.push_str(&piece.text),
                Err(error) => {
                    assert!((number, error.to_string().contains("no token can be chosen")) == (1, true), "{number}: {error}");
                    errors += 1;
                }
            }
        }
    }
    assert_eq!(errors, 1);
    assert_eq!(text, model.session().unwrap().generate("The river", &greedy(6)).unwrap().text().unwrap());
    assert_eq!((batch.done_reason(0), batch.done_reason(1)), (Some(DoneReason::Length), None));
}

#[test]
fn a_batch_takes_sessions_of_its_own_model_only_and_goes_on_with_their_cache() {
    let (model, _) = counter_of(256);
    let (other, _) = counter_of(256);
    let mut session = model.session().unwrap();
    let mut talk = vec![Message::user("The river runs north.")];
    let answer = session.chat(&talk, &greedy(3)).unwrap().text().unwrap();
    talk.extend([Message::assistant(answer), Message::user("And then?")]);
    let mut batch = model.generate_batch();
    let refused = batch.join_chat(other.session().unwrap(), &talk, &greedy(1)).unwrap_err();
    assert!(matches!(refused.error, Error::Input(_)));
    // What can not join comes back as it was.
    let read = session.tokens();
    let refused = batch.join_chat(session, &[Message::user("word ".repeat(300))], &greedy(2)).unwrap_err();
    assert!(matches!(refused.error, Error::ContextOverflow { .. }), "{refused}");
    assert_eq!(refused.session.tokens(), read);
    let number = batch.join_chat(refused.session, &talk, &greedy(2)).unwrap();
    assert!(batch.usage(number).unwrap().cached_tokens > 5);
    while batch.running() > 0 {
        batch.step().unwrap();
    }
    let alone = tokens(&mut model.session().unwrap().chat(&talk, &greedy(2)).unwrap());
    assert_eq!(batch.tokens(number).unwrap(), alone);
}

#[test]
fn a_full_context_ends_the_text_and_a_longer_prompt_is_an_error_or_cut_as_asked() {
    let (model, _) = counter();
    let mut session = model.session().unwrap();
    let prompt: Vec<u32> = (100..160).collect();
    let mut run = session.generate_tokens(&prompt, &greedy(99)).unwrap();
    assert_eq!(tokens(&mut run), [160, 161, 162, 163]);
    assert_eq!(run.done_reason(), Some(DoneReason::Length));

    let long: Vec<u32> = (100..200).collect();
    session.reset();
    match session.generate_tokens(&long, &greedy(1)) {
        Err(Error::ContextOverflow { wanted: 101, limit: 64 }) => {}
        other => panic!("{:?}", other.err()),
    }
    let cut = GenerateOptions { overflow: Overflow::Truncate, ..greedy(1) };
    let mut run = session.generate_tokens(&long, &cut).unwrap();
    assert_eq!(tokens(&mut run), [200]);
    assert_eq!((run.usage().truncated_tokens, run.prompt_tokens().len()), (37, 63));
}

#[test]
fn a_chat_reads_only_what_is_new() {
    let (model, read) = counter_of(256);
    let mut session = model.session().unwrap();
    let mut talk = vec![Message::user("The river runs north.")];
    let answer = session.chat(&talk, &greedy(3)).unwrap().text().unwrap();
    let first = read.swap(0, Ordering::Relaxed);
    talk.extend([Message::assistant(answer), Message::user("And then?")]);
    let usage = {
        let mut run = session.chat(&talk, &greedy(1)).unwrap();
        run.text().unwrap();
        run.usage()
    };
    assert!(usage.cached_tokens >= first - 3, "{usage:?} after {first} tokens");
    assert_eq!(read.load(Ordering::Relaxed), usage.prompt_tokens - usage.cached_tokens);
}

/// A talk of `turns` questions with answers and a last question, and the options to shorten it.
fn long_talk(turns: usize) -> (Vec<Message>, GenerateOptions) {
    let mut talk = vec![Message::system("Be brief.")];
    for turn in 0..turns {
        talk.push(Message::user(format!("Question {turn}: where does the river run?")));
        talk.push(Message::assistant(format!("Answer {turn}: the river runs north.")));
    }
    talk.push(Message::user("And the last question?"));
    (talk, GenerateOptions { overflow: Overflow::Truncate, ..greedy(8) })
}

fn prompt_of(model: &Model, talk: &[Message]) -> Vec<u32> {
    let text = model.template().unwrap().unwrap().render(talk, true).unwrap();
    model.tokenizer().encode(&text, false).unwrap()
}

#[test]
fn a_chat_that_is_too_long_loses_its_oldest_questions_with_their_answers_and_nothing_else() {
    let (talk, options) = long_talk(6);
    let whole = prompt_of(&counter_of(4096).0, &talk).len();
    for context in [whole, whole - 30, whole * 2 / 3, whole / 2] {
        let (model, _) = counter_of(context);
        let mut session = model.session().unwrap();
        match session.chat(&talk, &GenerateOptions { overflow: Overflow::Error, ..options.clone() }) {
            Err(Error::ContextOverflow { wanted, limit }) => assert_eq!((wanted, limit), (whole + 1, context)),
            other => panic!("{:?}", other.err()),
        }
        let run = session.chat(&talk, &options).unwrap();
        let usage = run.usage();
        // The fewest pairs that leave room for eight tokens.
        let kept = |pairs: usize| [&talk[..1], &talk[1 + 2 * pairs..]].concat();
        let pairs = (1..).find(|pairs| prompt_of(&model, &kept(*pairs)).len() <= context - 8).unwrap();
        assert_eq!(run.prompt_tokens(), prompt_of(&model, &kept(pairs)), "{context} of {whole}");
        assert_eq!(usage.truncated_messages, 2 * pairs);
        assert_eq!(usage.truncated_tokens, whole - usage.prompt_tokens);
    }
}

#[test]
fn a_message_that_does_not_fit_alone_is_an_error_that_says_so() {
    let (mut talk, options) = long_talk(2);
    talk.push(Message::assistant("Yes."));
    talk.push(Message::user("word ".repeat(200)));
    let (model, _) = counter_of(100);
    let alone = prompt_of(&model, &[&talk[..1], &talk[talk.len() - 1..]].concat()).len();
    match model.session().unwrap().chat(&talk, &options) {
        Err(error @ Error::MessageTooLong { wanted, limit: 100 }) => {
            assert_eq!(wanted, alone + 1);
            assert!(error.to_string().contains("the newest message"), "{error}");
        }
        other => panic!("{:?}", other.err()),
    };
}

#[test]
fn roles_of_other_names_are_dropped_likewise_and_system_messages_stay_wherever_they_are() {
    let (model, _) = counter_of(120);
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}";
    let template = crate::text::ChatTemplate::new(template, &crate::text::SpecialTokens::default()).unwrap();
    let options = GenerateOptions { overflow: Overflow::Truncate, ..greedy(8) };
    let long = "word ".repeat(100);
    let fit = |talk: &[Message]| {
        super::prompt::fit_chat(&model, &template, (talk, super::prompt::Ending::Answer), 120, &options)
            .map(|(tokens, dropped)| (model.tokenizer().decode(&tokens, false).unwrap(), dropped.messages))
    };
    let talk = [Message::new("human", long.as_str()), Message::new("ai", "ok"), Message::new("human", "and?")];
    assert_eq!(fit(&talk).unwrap(), ("[human]and?\n".to_owned(), 2));
    let talk = [Message::user(long.as_str()), Message::system("Be brief."), Message::user("and?")];
    assert_eq!(fit(&talk).unwrap(), ("[system]Be brief.\n[user]and?\n".to_owned(), 1));
    // A question and what a tool said to it belong together.
    let talk = [Message::user("x"), Message::assistant("ok"), Message::user("hi"), Message::new("tool", long.as_str())];
    assert!(matches!(fit(&talk), Err(Error::MessageTooLong { .. })));
}

#[test]
fn what_was_dropped_stays_dropped_so_that_the_next_turn_reads_only_what_is_new() {
    let (mut talk, options) = long_talk(6);
    let (model, read) = counter_of(prompt_of(&counter_of(4096).0, &talk).len());
    let mut session = model.session().unwrap();
    let (answer, dropped) = {
        let mut run = session.chat(&talk, &options).unwrap();
        (run.text().unwrap(), run.usage().truncated_messages)
    };
    talk.drain(1..1 + dropped);
    talk.extend([Message::assistant(answer), Message::user("Go on.")]);
    read.store(0, Ordering::Relaxed);
    let run = session.chat(&talk, &options).unwrap();
    let usage = run.usage();
    assert_eq!(usage.truncated_messages, 0);
    assert!(usage.cached_tokens * 2 > usage.prompt_tokens, "{usage:?}");
    assert_eq!(read.load(Ordering::Relaxed), usage.prompt_tokens - usage.cached_tokens);
}

#[test]
fn a_full_context_ends_an_answer_for_its_length() {
    let (model, _) = counter();
    let mut session = model.session().unwrap();
    let options = GenerateOptions { max_tokens: None, ignore_eos: true, ..greedy(1) };
    let mut run = session.chat(&[Message::user("Hi")], &options).unwrap();
    run.text().unwrap();
    assert_eq!(run.done_reason(), Some(DoneReason::Length));
    assert_eq!(run.prompt_tokens().len() + run.tokens().len(), 64);
}

#[test]
fn a_cancelled_generation_ends_between_two_tokens_and_keeps_what_there_is() {
    let (model, _) = counter();
    let cancel = Cancel::default();
    let options = GenerateOptions { cancel: Some(cancel.clone()), ..greedy(30) };
    let mut session = model.session().unwrap();
    let mut run = session.generate_tokens(&[10], &options).unwrap();
    run.next().unwrap().unwrap();
    run.next().unwrap().unwrap();
    cancel.cancel();
    run.text().unwrap();
    assert_eq!((run.done_reason(), run.tokens()), (Some(DoneReason::Cancelled), &[11, 12][..]));
    cancel.reset();
    assert_eq!(tokens(&mut session.generate_tokens(&[], &greedy(2)).unwrap()), [13, 14]);
}

#[test]
fn a_prompt_is_no_longer_read_once_it_is_cancelled_and_what_was_read_is_not_read_again() {
    let (model, read) = counter_of(4096);
    let cancel = Cancel::default();
    let options = GenerateOptions { cancel: Some(cancel.clone()), ..greedy(1) };
    let prompt: Vec<u32> = (0..3000).map(|i| i % 300).collect();
    let mut session = model.session().unwrap();
    cancel.cancel();
    assert!(matches!(session.generate_tokens(&prompt, &options), Err(Error::Cancelled)));
    assert_eq!(read.load(Ordering::Relaxed), 0);
    cancel.reset();
    // The same text in chunks of other sizes.
    assert_eq!(tokens(&mut session.generate_tokens(&prompt, &options).unwrap()), [300]);
    assert_eq!(read.load(Ordering::Relaxed), 3000);
}

#[test]
fn a_session_can_be_cut_back_reset_and_forked() {
    let (model, read) = counter();
    let mut session = model.session().unwrap();
    tokens(&mut session.generate_tokens(&[10, 11, 12], &greedy(2)).unwrap());
    let mut fork = session.fork().unwrap();
    session.truncate(2);
    assert_eq!(session.tokens(), [10, 11]);
    read.store(0, Ordering::Relaxed);
    assert_eq!(tokens(&mut session.generate_tokens(&[50], &greedy(1)).unwrap()), [51]);
    assert_eq!(read.load(Ordering::Relaxed), 1, "the two kept tokens are not read again");
    assert_eq!(tokens(&mut fork.generate_tokens(&[], &greedy(1)).unwrap()), [15]);
    session.reset();
    assert!(session.tokens().is_empty());
}

#[test]
fn a_stop_string_ends_the_text_before_it_and_is_held_back_while_it_may_come() {
    let (model, _) = counter();
    let all = model.session().unwrap().generate_tokens(&[39], &greedy(8)).unwrap().text().unwrap();
    let middle = &all[3..5];
    let options = GenerateOptions { stop: vec![middle.to_owned()], ..greedy(8) };
    let mut session = model.session().unwrap();
    let mut run = session.generate_tokens(&[39], &options).unwrap();
    assert_eq!(run.text().unwrap(), all[..all.find(middle).unwrap()]);
    assert_eq!(run.done_reason(), Some(DoneReason::Stop));
}

#[test]
fn unusable_input_is_refused_with_a_message() {
    let (model, _) = counter();
    let mut session = model.session().unwrap();
    let message = |result: Result<Generation>| result.err().unwrap().to_string();
    assert!(message(session.generate("", &greedy(1))).contains("the prompt gives no token"));
    assert!(message(session.generate_tokens(&[9999], &greedy(1))).contains("token 9999 is outside the vocabulary of 500"));
    let empty_stop = GenerateOptions { stop: vec![String::new()], ..greedy(1) };
    assert!(message(session.generate_tokens(&[1], &empty_stop)).contains("option stop"));
    let cold = SampleOptions { temperature: -1.0, ..SampleOptions::default() };
    let cold = GenerateOptions { sampling: cold, ..greedy(1) };
    assert!(message(session.generate_tokens(&[1], &cold)).contains("temperature"));
    let biased = SampleOptions { logit_bias: vec![(9999, 1.0)], ..SampleOptions::greedy() };
    let biased = GenerateOptions { sampling: biased, ..greedy(1) };
    assert!(message(session.generate_tokens(&[1], &biased)).contains("logit_bias: token 9999 is outside the vocabulary"));
    assert!(model.logits(&[], false).is_err());
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let (model, _) = counter();
    let hot = SampleOptions { temperature: 20.0, top_k: 0, top_p: 1.0, ..SampleOptions::default() };
    let text = |seed| {
        let options = GenerateOptions { sampling: hot.clone(), seed: Some(seed), ..greedy(30) };
        tokens(&mut model.session().unwrap().generate_tokens(&[1], &options).unwrap())
    };
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

#[test]
fn many_threads_share_one_model_and_each_session_is_its_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf-q8_0-spm");
    let model = Model::load(folder.to_str().unwrap()).unwrap();
    assert_eq!(model.info().quantisation, Dtype::Q8_0);
    assert_eq!(model.info().cache_type, CacheType::F16);
    let text = |prompt: u32| {
        let options = GenerateOptions { ignore_eos: true, ..greedy(20) };
        tokens(&mut model.session().unwrap().generate_tokens(&[1, 300 + prompt], &options).unwrap())
    };
    let alone: Vec<_> = (0..8).map(text).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|prompt| scope.spawn(move || text(prompt))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

/// A golden case with a context of 4,096.
fn golden(name: &str, device: DeviceChoice) -> Model {
    golden_with(name, device, CacheType::Auto)
}

fn golden_with(name: &str, device: DeviceChoice, cache_type: CacheType) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let options = LoadOptions { context: Some(4096), device, cache_type, ..LoadOptions::default() };
    Model::load_with(folder.to_str().unwrap(), &options).unwrap()
}

/// A text of `len` tokens without a pattern.
fn noise(len: u32) -> Vec<u32> {
    (0..len).map(|i| 3 + i.wrapping_mul(2_654_435_761) % 400).collect()
}

/// Reads `tokens` in chunks; gives the last logits and the cache.
fn read_in_chunks(model: &Model, tokens: &[u32], chunk: usize) -> (Vec<f32>, KvCache) {
    let mut cache = model.inner().network.cache(4096).unwrap();
    let mut logits = Vec::new();
    for tokens in tokens.chunks(chunk) {
        model.inner().network.logits(&Batch::last(tokens), &mut [&mut cache], &mut logits).unwrap();
    }
    (logits, cache)
}

#[test]
fn layers_with_a_window_take_no_more_memory_than_that_and_give_the_same_bits() {
    for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
        for (name, window_layers, layers) in [("mistral-window8", 2, 2), ("gemma3-text", 3, 4)] {
            let model = golden(name, device);
            let tokens = noise(1500);
            let one_layer = |len| read_in_chunks(&golden("mistral-no-window", device), &tokens[..len], 512).1.bytes() / 2;
            let attention = &model.spec().attention;
            let scale = (attention.head_dim * attention.kv_heads) as f64 / (12 * 2) as f64;
            let (logits, cache) = read_in_chunks(&model, &tokens, 512);
            // The window, a step of 256 and a chunk of 512 are less than 1,024 positions.
            let most = window_layers as f64 * one_layer(1024) as f64 + (layers - window_layers) as f64 * one_layer(1500) as f64;
            let taken = cache.bytes() as f64;
            assert!(taken <= 1.4 * most * scale, "{name} on {device}: {taken} bytes, expected {}", most * scale);
            let (by_one, cache) = read_in_chunks(&model, &tokens, 7);
            assert!(cache.bytes() as f64 <= taken, "{name} on {device}");
            let (at_once, _) = read_in_chunks(&model, &tokens, 1500);
            for other in [by_one, at_once] {
                let same = |(a, b): (&f32, &f32)| match device {
                    DeviceChoice::Cpu => a.to_bits() == b.to_bits(),
                    _ => (a - b).abs() < 1e-4,
                };
                assert!(logits.iter().zip(&other).all(same), "{name} on {device}");
            }
        }
    }
}

#[test]
fn going_back_beyond_a_window_reads_the_text_again_and_gives_the_same() {
    for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
        let model = golden("gemma3-text", device);
        let tokens = noise(900);
        let mut session = model.session().unwrap();
        let answer = |session: &mut Session, tokens: &[u32]| -> Vec<u32> {
            session.reset();
            let mut run = session.generate_tokens(tokens, &greedy(6)).unwrap();
            run.text().unwrap();
            run.tokens().to_vec()
        };
        for len in [900, 40, 895, 300] {
            let fresh = answer(&mut model.session().unwrap(), &tokens[..len]);
            let mut run = session.generate_tokens(&[], &greedy(0)).ok();
            drop(run.take());
            // What the session holds of `tokens` stays; the rest is read.
            session.truncate(len);
            let held = session.tokens().len();
            let mut fork = session.fork().unwrap();
            for session in [&mut session, &mut fork] {
                let mut run = session.generate_tokens(&tokens[held..len], &greedy(6)).unwrap();
                run.text().unwrap();
                assert_eq!(run.tokens(), fresh, "{len} tokens on {device}");
            }
            session.truncate(len);
        }
    }
}

#[test]
fn a_cache_goes_back_to_the_last_forward_but_not_beyond_what_its_windows_hold() {
    let model = golden("mistral-window8", DeviceChoice::Cpu);
    let (_, mut cache) = read_in_chunks(&model, &noise(900), 100);
    assert_eq!(cache.truncate(2000), 900);
    assert_eq!(cache.truncate(800), 800);
    assert_eq!(cache.truncate(500), 0);
    assert_eq!(cache.len(), 0);
}

#[test]
fn a_cache_of_any_type_forgets_goes_back_and_forks_without_a_trace_in_the_bits() {
    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for cache_type in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        let model = golden_with("gemma3-text", DeviceChoice::Cpu, cache_type);
        let tokens = noise(1500);
        let (logits, mut cache) = read_in_chunks(&model, &tokens, 512);
        for chunk in [1, 7, 1500] {
            assert_eq!(bits(&read_in_chunks(&model, &tokens, chunk).0), bits(&logits), "{cache_type}, chunks of {chunk}");
        }
        // The last forward began at 1,024, so its windows still hold what comes after.
        assert_eq!(cache.truncate(1111), 1111);
        let mut fork = cache.clone();
        for cache in [&mut cache, &mut fork] {
            let mut again = Vec::new();
            model.inner().network.logits(&Batch::last(&tokens[1111..]), &mut [cache], &mut again).unwrap();
            assert_eq!(bits(&again), bits(&logits), "{cache_type}");
        }
    }
}

#[test]
fn a_cache_takes_the_memory_that_is_reckoned_for_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let mut per_token = Vec::new();
    for cache_type in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        let options = LoadOptions { cache_type, ..LoadOptions::default() };
        let model = Model::load_with(file.to_str().unwrap(), &options).unwrap();
        let (_, cache) = read_in_chunks(&model, &noise(3), 3);
        // Memory grows by 64 positions at a time.
        assert_eq!(cache.bytes() as u64, 64 * model.info().cache_bytes_per_token, "{cache_type}");
        let cost = crate::Checkpoint::open(file.to_str().unwrap()).unwrap().with_cache(cache_type).cost();
        assert_eq!(cost.cache_per_token, model.info().cache_bytes_per_token);
        assert_eq!(cost.need(1000) - cost.need(0), 1000 * cost.cache_per_token);
        per_token.push(cost.cache_per_token);
    }
    // 30 layers of three heads of 64, keys and values: 32, 16 and 8.5 bits a number.
    assert_eq!(per_token, [46_080, 23_040, 12_240]);
}

#[test]
fn a_narrow_cache_is_refused_where_candles_ops_compute() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama-gqa-tied");
    for cache_type in [CacheType::F16, CacheType::Q8_0] {
        let options = LoadOptions { device: DeviceChoice::CpuReference, cache_type, ..LoadOptions::default() };
        let error = Model::load_with(folder.to_str().unwrap(), &options).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("a cache of {cache_type} on the device cpu-reference")), "{text}");
        assert!(text.contains("f32 there, f16 and q8_0 on cpu"), "{text}");
    }
}
