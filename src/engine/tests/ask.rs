//! What programs ask for beside an answer: reading alone, scores, answers that were begun, plain text, hooks, generations that
//! own their session.

use super::*;
use crate::sample::{LogitsHook, log_probabilities};
use crate::text::{ChatTemplate, SpecialTokens};

#[test]
fn reading_a_prompt_leaves_only_its_last_token_to_what_is_asked_next() {
    let (model, read) = counter_of(256);
    let mut session = model.session().unwrap();
    let usage = session.read("The river runs north.", &greedy(1)).unwrap();
    assert_eq!((usage.prompt_tokens, usage.tokens), (session.tokens().len(), 0));
    assert_eq!(read.swap(0, Ordering::Relaxed), usage.prompt_tokens);
    let forked = tokens(&mut session.fork().unwrap().generate(" And", &greedy(3)).unwrap());
    let alone = {
        let mut all = session.tokens();
        all.extend(model.tokenizer().encode(" And", false).unwrap());
        tokens(&mut model.session().unwrap().generate_tokens(&all, &greedy(3)).unwrap())
    };
    assert_eq!(forked, alone);
    // A system message is the beginning of every talk that has it.
    session.reset();
    let talk = [Message::system("Be brief."), Message::user("Hi")];
    let usage = session.read_chat(&talk[..1], &greedy(1)).unwrap();
    let cached = session.chat(&talk, &greedy(1)).unwrap().usage().cached_tokens;
    assert!(cached + 1 >= usage.prompt_tokens, "{cached} of {}", usage.prompt_tokens);
}

#[test]
fn scores_are_the_log_probabilities_of_the_forward_and_leave_the_text_as_it_is() {
    for name in ["llama-gqa-tied", "gemma3-text"] {
        let model = golden(name, DeviceChoice::Cpu);
        let mut session = model.session().unwrap();
        let answer = tokens(&mut session.generate_tokens(&noise(30), &greedy(3)).unwrap());
        let before = session.tokens();
        assert!(before.ends_with(&answer));
        let choices = ["", " north", " the river runs south", " x"];
        let scores = session.score(&choices, &GenerateOptions::default()).unwrap();
        assert_eq!(session.tokens(), before);
        for (choice, score) in choices.iter().zip(&scores) {
            let ids = model.tokenizer().encode(choice, before.is_empty()).unwrap();
            let all: Vec<u32> = before.iter().chain(&ids).copied().collect();
            let logits = model.logits(&all, true).unwrap();
            let rows: Vec<&[f32]> = logits.chunks_exact(model.spec().vocab).collect();
            let expected = ids
                .iter()
                .enumerate()
                .map(|(i, id)| (*id, Some(log_probabilities(rows[before.len() - 1 + i], *id, 0).unwrap().0)));
            assert_eq!(score.tokens, expected.collect::<Vec<_>>(), "{name}, {choice:?}");
        }
        assert_eq!(scores[0].logprob(), 0.0);
        // The text goes on as it would have.
        let mut other = model.session().unwrap();
        let rest = tokens(&mut other.generate_tokens(&before, &greedy(3)).unwrap());
        assert_eq!(tokens(&mut session.generate_tokens(&[], &greedy(3)).unwrap()), rest);
        // A prompt's own tokens.
        let whole = model.session().unwrap().score(&["The river runs north."], &GenerateOptions::default()).unwrap().remove(0);
        let logits = model.logits(&whole.tokens.iter().map(|token| token.0).collect::<Vec<_>>(), true).unwrap();
        assert_eq!(whole.tokens[0].1, None);
        for (row, (id, logprob)) in logits.chunks_exact(model.spec().vocab).zip(&whole.tokens[1..]) {
            assert_eq!(*logprob, Some(log_probabilities(row, *id, 0).unwrap().0), "{name}");
        }
    }
}

#[test]
fn a_score_reads_the_text_so_far_once_and_a_choice_that_does_not_fit_is_an_error() {
    let (model, read) = counter_of(64);
    let mut session = model.session().unwrap();
    session.generate_tokens(&(100..140).collect::<Vec<_>>(), &greedy(1)).unwrap().text().unwrap();
    read.store(0, Ordering::Relaxed);
    let scores = session.score(&["the", "river", "x"], &GenerateOptions::default()).unwrap();
    let new: usize = scores.iter().map(|score| score.tokens.len() - 1).sum();
    assert_eq!(read.load(Ordering::Relaxed), 1 + new, "the token that waited, and the choices but for their ends");
    let error = session.score(&["x".repeat(400)], &GenerateOptions::default()).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { limit: 64, .. }), "{error}");
    let cancel = Cancel::default();
    cancel.cancel();
    let before = session.tokens();
    let options = GenerateOptions { cancel: Some(cancel), ..greedy(1) };
    assert!(matches!(session.score(&["the"], &options), Err(Error::Cancelled)));
    assert_eq!(session.tokens(), before);
}

/// A case of `continued.json`: what transformers makes of it.
fn continued() -> Vec<serde_json::Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/continued.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn an_answer_that_was_begun_is_rendered_as_transformers_renders_it() {
    let cases = continued();
    assert!(cases.len() > 10);
    for case in cases {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let template = ChatTemplate::new(case["template"].as_str().unwrap(), &SpecialTokens::default()).unwrap();
        let text = super::prompt::render(&template, &messages, super::prompt::Ending::Begun);
        match case["text"].as_str() {
            Some(expected) => assert_eq!(text.unwrap(), expected, "{case}"),
            None => assert!(text.unwrap_err().to_string().contains("continue_final_message"), "{case}"),
        }
    }
}

#[test]
fn an_answer_that_was_begun_goes_on_where_it_ends() {
    let (model, _) = counter_of(256);
    let talk = [Message::user("Where?"), Message::assistant("The river runs")];
    let options = GenerateOptions { continue_final_message: true, ..greedy(3) };
    let mut session = model.session().unwrap();
    let run = session.chat(&talk, &options).unwrap();
    let prompt = model.tokenizer().decode(run.prompt_tokens(), false).unwrap();
    assert!(prompt.ends_with("The river runs"), "{prompt:?}");
    let error = model.session().unwrap().chat(&[], &options).err().unwrap();
    assert!(error.to_string().contains("continue_final_message: there is no message"), "{error}");
}

#[test]
fn special_tokens_that_a_text_spells_are_plain_text_if_asked_for_and_those_of_a_template_are_not() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let model = Model::load_with(file.to_str().unwrap(), &LoadOptions::default()).unwrap();
    let tokenizer = model.tokenizer();
    let end = tokenizer.id("<|im_end|>").unwrap();
    let text = "Say <|im_end|> twice: <|im_end|>.";
    let ends = |ids: &[u32]| ids.iter().filter(|id| **id == end).count();
    let plain = GenerateOptions { parse_special: false, ..greedy(1) };
    let mut session = model.session().unwrap();
    assert_eq!(ends(session.generate(text, &greedy(1)).unwrap().prompt_tokens()), 2);
    session.reset();
    let ids = session.generate(text, &plain).unwrap().prompt_tokens().to_vec();
    assert_eq!((ends(&ids), tokenizer.decode(&ids, false).unwrap().as_str()), (0, text));
    let talk = [Message::system("Be brief."), Message::user(text)];
    let parsed = session.chat(&talk, &greedy(1)).unwrap().prompt_tokens().to_vec();
    let hidden = session.chat(&talk, &plain).unwrap().prompt_tokens().to_vec();
    assert_eq!((ends(&parsed), ends(&hidden)), (4, 2));
    assert_eq!(tokenizer.decode(&hidden, false).unwrap(), tokenizer.decode(&parsed, false).unwrap());
    // Nothing else changes.
    let talk = [Message::user("What is a lighthouse?")];
    let parsed = session.chat(&talk, &greedy(1)).unwrap().prompt_tokens().to_vec();
    assert_eq!(session.chat(&talk, &plain).unwrap().prompt_tokens(), parsed);
}

#[test]
fn hidden_special_tokens_are_encoded_as_the_tokenizers_library_does_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plain-special.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut seen = 0;
    for case in &cases {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case["folder"].as_str().unwrap());
        let bytes = std::fs::read(golden.join("tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::from_json(&bytes, "tokenizer.json").unwrap();
        for text in case["texts"].as_array().unwrap() {
            let (plain, expected) = (text["text"].as_str().unwrap(), &text["ids"]);
            let ids = tokenizer.encode_hidden(&tokenizer.hide_special(plain), false).unwrap();
            // A Unigram vocabulary has special tokens among its pieces, which the library finds in plain text; tallow does not.
            let is_special = |id: &serde_json::Value| tokenizer.is_special(id.as_u64().unwrap() as u32);
            if expected.as_array().unwrap().iter().any(is_special) {
                continue;
            }
            assert_eq!(serde_json::json!(ids), *expected, "{}: {plain:?}", case["folder"]);
            seen += usize::from(ids != tokenizer.encode(plain, false).unwrap());
        }
    }
    assert!(seen > 5, "{seen} texts that are encoded otherwise");
}

#[test]
fn which_stop_string_ended_the_text_is_told_and_it_stays_if_asked_for() {
    let (model, _) = counter();
    let all = model.session().unwrap().generate_tokens(&[39], &greedy(8)).unwrap().text().unwrap();
    let middle = all[3..5].to_owned();
    let options = GenerateOptions { stop: vec!["never".into(), middle.clone()], ..greedy(8) };
    let mut session = model.session().unwrap();
    let mut run = session.generate_tokens(&[39], &options).unwrap();
    run.text().unwrap();
    assert_eq!(run.stopped_by(), Some(middle.as_str()));
    let options = GenerateOptions { keep_stop: true, ..options };
    session.reset();
    let mut run = session.generate_tokens(&[39], &options).unwrap();
    assert_eq!(run.text().unwrap(), all[..all.find(&middle).unwrap() + middle.len()]);
    session.reset();
    let mut run = session.generate_tokens(&[39], &greedy(2)).unwrap();
    run.text().unwrap();
    assert_eq!((run.done_reason(), run.stopped_by()), (Some(DoneReason::Length), None));
}

#[test]
fn a_hook_changes_logits_or_chooses_alone_and_in_a_batch_and_the_random_numbers_stay() {
    let (model, _) = counter();
    // Every third token is 77, and 80 is forbidden.
    let hook = LogitsHook::new(|next| {
        next.logits[80] = f32::NEG_INFINITY;
        assert_eq!(next.prompt, [5]);
        Ok((next.tokens.len() % 3 == 2).then_some(77))
    });
    let options = GenerateOptions { hook: Some(hook), ..greedy(8) };
    let alone = tokens(&mut model.session().unwrap().generate_tokens(&[5], &options).unwrap());
    assert_eq!(alone, [6, 7, 77, 78, 79, 77, 78, 79]);
    let mut batch = model.generate_batch();
    let first = batch.take_up(model.session().unwrap().into_generate_tokens(&[5], &options)).unwrap();
    let second = batch.take_up(model.session().unwrap().into_generate_tokens(&[5], &options)).unwrap();
    while batch.running() > 0 {
        batch.step().unwrap();
    }
    assert_eq!((batch.tokens(first).unwrap(), batch.tokens(second).unwrap()), (&alone[..], &alone[..]));
    // A choice of the hook's costs the random number that the sampler's would have cost.
    let hot = SampleOptions { temperature: 20.0, top_k: 0, top_p: 1.0, ..SampleOptions::default() };
    let free = GenerateOptions { sampling: hot, seed: Some(7), hook: None, ..greedy(9) };
    let text = tokens(&mut model.session().unwrap().generate_tokens(&[5], &free).unwrap());
    let (first, same) = (text[0], text.clone());
    let hook = LogitsHook::new(move |next| Ok(next.tokens.is_empty().then_some(first)));
    let hooked = GenerateOptions { hook: Some(hook), ..free };
    assert_eq!(tokens(&mut model.session().unwrap().generate_tokens(&[5], &hooked).unwrap()), same);
    // What it says is checked.
    let hook = LogitsHook::new(|_| Ok(Some(9999)));
    let mut session = model.session().unwrap();
    let error = session.generate_tokens(&[5], &GenerateOptions { hook: Some(hook), ..greedy(1) }).unwrap().text().unwrap_err();
    assert!(error.to_string().contains("hook: token 9999 is outside the vocabulary of 500"), "{error}");
}

#[test]
fn a_generation_can_own_its_session_and_be_put_away_and_taken_up_at_any_step() {
    let model = golden("llama-gqa-tied", DeviceChoice::Cpu);
    let sampled = GenerateOptions { sampling: SampleOptions::default(), seed: Some(5), ignore_eos: true, ..greedy(12) };
    let alone = tokens(&mut model.session().unwrap().generate("The river", &sampled).unwrap());
    struct Kept {
        generation: Generation<'static>,
    }
    let mut kept = Kept { generation: model.session().unwrap().into_generate("The river", &sampled).unwrap() };
    kept.generation.by_ref().take(3).for_each(|piece| drop(piece.unwrap()));
    // Into a batch, out of it in the middle, into another one beside others.
    let mut batch = model.generate_batch();
    let number = batch.take_up(kept.generation).unwrap();
    (0..4).for_each(|_| drop(batch.step().unwrap()));
    let generation = batch.put_away(number).unwrap();
    assert!(batch.put_away(number).is_none() && batch.usage(number).is_none());
    assert_eq!(generation.tokens(), &alone[..7]);
    let mut other = model.generate_batch();
    other.join("And then the river runs", &sampled).unwrap();
    other.step().unwrap();
    let number = other.take_up(generation).unwrap();
    (0..2).for_each(|_| drop(other.step().unwrap()));
    let mut generation = other.put_away(number).unwrap();
    generation.text().unwrap();
    assert_eq!((generation.tokens(), generation.usage().tokens), (&alone[..], 12));
    assert!(generation.into_session().unwrap().tokens().ends_with(&alone));
    // One that lent its session has none to give, and a foreign one is refused.
    let mut session = model.session().unwrap();
    assert!(session.generate("The river", &sampled).unwrap().into_session().is_none());
    let foreign = golden("llama-gqa-tied", DeviceChoice::Cpu).session().unwrap().into_generate("x", &sampled).unwrap();
    assert!(batch.take_up(foreign).unwrap_err().to_string().contains("sessions of its own model"));
    let refused = session.into_chat(&[], &GenerateOptions { continue_final_message: true, ..sampled }).unwrap_err();
    assert!(refused.session.tokens().starts_with(&[refused.session.tokens()[0]]), "the session comes back");
}

#[test]
fn a_prompt_put_away_while_it_is_read_is_read_on_later() {
    let (model, read) = counter_of(4096);
    let long = "The river runs north. ".repeat(60);
    let alone = tokens(&mut model.session().unwrap().generate(&long, &greedy(3)).unwrap());
    let mut batch = model.generate_batch();
    batch.join("x", &greedy(300)).unwrap();
    batch.step().unwrap();
    let number = batch.join(&long, &greedy(3)).unwrap();
    (0..2).for_each(|_| drop(batch.step().unwrap()));
    read.store(0, Ordering::Relaxed);
    let mut generation = batch.put_away(number).unwrap();
    assert!(generation.tokens().is_empty());
    generation.text().unwrap();
    assert_eq!(generation.tokens(), alone);
    assert!(read.load(Ordering::Relaxed) < generation.usage().prompt_tokens);
}

#[cfg(feature = "async")]
mod stream {
    use super::*;
    use futures_core::Stream;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// The smallest executor.
    fn next(stream: &mut PieceStream) -> Option<Result<Piece>> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            match pin!(&mut *stream).poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(piece) => return piece,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    #[test]
    fn a_stream_gives_the_pieces_of_the_generation_and_then_its_session() {
        let (model, _) = counter();
        let expected: Vec<Piece> = model.session().unwrap().generate("The", &greedy(9)).unwrap().map(Result::unwrap).collect();
        let mut stream = model.session().unwrap().into_stream("The", &greedy(9));
        let pieces: Vec<Piece> = std::iter::from_fn(|| next(&mut stream)).map(Result::unwrap).collect();
        assert_eq!(pieces, expected);
        assert_eq!((stream.done_reason(), stream.usage().unwrap().tokens), (Some(DoneReason::Length), 9));
        assert!(next(&mut stream).is_none());
        assert!(stream.into_session().unwrap().tokens().len() > 9);
        let mut stream = model.session().unwrap().into_chat_stream([], &GenerateOptions { stop: vec!["".into()], ..greedy(1) });
        assert!(next(&mut stream).unwrap().is_err());
        assert!(next(&mut stream).is_none() && stream.done_reason().is_none());
    }

    #[test]
    fn dropping_a_stream_ends_its_generation_and_leaves_the_callers_switch_alone() {
        let (model, read) = counter_of(1 << 20);
        let cancel = Cancel::default();
        let options = GenerateOptions { cancel: Some(cancel.clone()), max_tokens: None, ignore_eos: true, ..greedy(1) };
        let mut stream = model.session().unwrap().into_stream("The", &options);
        next(&mut stream).unwrap().unwrap();
        let shared = stream.shared();
        drop(stream);
        // The thread lets go of what it shares once it has ended.
        while Arc::strong_count(&shared) > 1 {
            std::thread::yield_now();
        }
        assert!(!cancel.is_cancelled() && read.load(Ordering::Relaxed) < 1 << 19);
        let mut stream = model.session().unwrap().into_stream("The", &options);
        next(&mut stream).unwrap().unwrap();
        cancel.cancel();
        while next(&mut stream).is_some() {}
        assert_eq!(stream.done_reason(), Some(DoneReason::Cancelled));
    }
}
