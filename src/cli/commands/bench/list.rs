//! Lists of numbers as llama-bench writes them: `1,2`, `a-b`, `a-b+step`, `a-b*factor`.

/// The most numbers in a list: a mistyped range should not run for a year.
const MOST: usize = 1000;

/// A list of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<usize>);

impl std::str::FromStr for List {
    type Err = String;

    fn from_str(text: &str) -> Result<List, String> {
        let mut numbers = Vec::new();
        for part in text.split(',') {
            range(part.trim(), &mut numbers)?;
            if numbers.len() > MOST {
                return Err(format!("{part:?} gives more than {MOST} numbers"));
            }
        }
        Ok(List(numbers))
    }
}

/// Appends the numbers of `first[-last[(+|*)step]]`, or enough of them to see that there are too many.
fn range(text: &str, numbers: &mut Vec<usize>) -> Result<(), String> {
    let number = |digits: &str| -> Result<usize, String> {
        let digits_only = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let value = if digits_only { digits.parse::<u32>().ok() } else { None };
        value.map(|value| value as usize).ok_or_else(|| format!("{text:?} is no number and no range like 16-256*2"))
    };
    let Some((first, rest)) = text.split_once('-') else {
        numbers.push(number(text)?);
        return Ok(());
    };
    let (last, multiply, step) = match (rest.split_once('+'), rest.split_once('*')) {
        (Some((last, step)), _) => (last, false, number(step)?),
        (None, Some((last, factor))) => (last, true, number(factor)?),
        (None, None) => (rest, false, 1),
    };
    let (mut at, last) = (number(first)?, number(last)?);
    if at > last {
        return Err(format!("{text:?} runs backwards"));
    }
    while at <= last && numbers.len() <= MOST {
        numbers.push(at);
        let next = if multiply { at * step } else { at + step };
        if next <= at {
            return Err(format!("{text:?} does not get on"));
        }
        at = next;
    }
    Ok(())
}

/// `512,128`: a prompt and the tokens generated after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptAndGenerate {
    pub prompt: usize,
    pub generate: usize,
}

impl std::str::FromStr for PromptAndGenerate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once(',').map(|(prompt, generate)| (prompt.trim().parse::<u32>(), generate.trim().parse::<u32>()));
        match parts {
            Some((Ok(prompt), Ok(generate))) => Ok(PromptAndGenerate { prompt: prompt as usize, generate: generate as usize }),
            _ => Err(format!("{text:?} is no pair like 512,128")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_mean_what_they_mean_to_llama_bench() {
        for (text, expected) in [
            ("512", &[512][..]),
            ("128,512", &[128, 512]),
            ("1-4", &[1, 2, 3, 4]),
            ("3-3", &[3]),
            ("0-1024+256", &[0, 256, 512, 768, 1024]),
            ("10-25+10", &[10, 20]),
            ("16-256*2", &[16, 32, 64, 128, 256]),
            ("1,8-32*2,5-6", &[1, 8, 16, 32, 5, 6]),
        ] {
            assert_eq!(text.parse(), Ok(List(expected.to_vec())), "{text}");
        }
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        for text in
            ["", ",", "1,", "a", "-1", "4-1", "1-4+0", "1-4*1", "0-4*2", "1-4/2", "1-+2", "+1", "0-4294967295", "1-99999999999"]
        {
            assert!(text.parse::<List>().is_err(), "{text}");
        }
        for text in ["512", "1,2,3", "a,b", ",", "-1,2"] {
            assert!(text.parse::<PromptAndGenerate>().is_err(), "{text}");
        }
    }
}
