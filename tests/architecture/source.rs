//! A source file as far as its paths are concerned, without what is compiled for tests only.

use std::fs;
use std::iter::Peekable;
use std::path::Path;
use std::str::FromStr as _;
use std::vec::IntoIter;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

pub struct Source {
    /// Its path, for messages.
    pub path: String,
    /// Its module, without `crate`: `["redis", "reply"]`. That of `redis/mod.rs` is `["redis"]`.
    pub module: Vec<String>,
    /// Every path in it, `use` trees taken apart: `["std", "fs", "File"]`.
    pub paths: Vec<Vec<String>>,
    /// The paths among them that lead into this crate, without `crate`.
    pub uses: Vec<Vec<String>>,
    /// The macros that it calls.
    pub macros: Vec<String>,
    /// The modules in files of their own that are for tests only.
    pub test_modules: Vec<Vec<String>>,
}

impl Source {
    pub fn read(root: &Path, path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap();
        let inside = path.strip_prefix(root.join("src")).unwrap();
        let mut module: Vec<String> = inside
            .with_extension("")
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        module.pop_if(|last| last == "mod");
        let tokens =
            TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let mut source = Source {
            path: format!("src/{}", inside.display()),
            module: module.clone(),
            paths: Vec::new(),
            uses: Vec::new(),
            macros: Vec::new(),
            test_modules: Vec::new(),
        };
        source.walk(tokens, &module);
        source
    }

    /// Reads the tokens of a module, or of a part of one.
    fn walk(&mut self, tokens: TokenStream, module: &[String]) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut trees = trees.into_iter().peekable();
        while let Some(tree) = trees.next() {
            match tree {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    if trees.peek().is_some_and(is_cfg_test) {
                        self.skip_item(&mut trees, module);
                    }
                }
                TokenTree::Ident(word) if word == "mod" => {
                    let Some(TokenTree::Ident(name)) = trees.next() else {
                        continue;
                    };
                    if let Some(group) = group(trees.peek()) {
                        let inner = [module, &[name.to_string()]].concat();
                        trees.next();
                        self.walk(group, &inner);
                    }
                }
                TokenTree::Ident(word) => {
                    self.path(vec![word.to_string()], &mut trees, module);
                }
                TokenTree::Group(group) => self.walk(group.stream(), module),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Reads a path of which the words so far are known; a group at its end is a `use` tree.
    fn path(
        &mut self,
        mut words: Vec<String>,
        trees: &mut Peekable<IntoIter<TokenTree>>,
        module: &[String],
    ) {
        while take_colons(trees) {
            match trees.peek() {
                Some(TokenTree::Ident(word)) => {
                    words.push(word.to_string());
                    trees.next();
                }
                Some(TokenTree::Group(_)) => {
                    let tree = group(trees.next().as_ref()).unwrap_or_default();
                    return self.tree(&words, tree, module);
                }
                _ => break,
            }
        }
        if matches!(trees.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!') {
            self.macros.extend(words.last().cloned());
        }
        self.add(words, module);
    }

    fn tree(&mut self, words: &[String], tree: TokenStream, module: &[String]) {
        let trees: Vec<TokenTree> = tree.into_iter().collect();
        let mut trees = trees.into_iter().peekable();
        while let Some(tree) = trees.next() {
            match tree {
                TokenTree::Ident(word) if word == "self" => self.add(words.to_vec(), module),
                TokenTree::Ident(word) if word == "as" => drop(trees.next()),
                TokenTree::Ident(word) => {
                    self.path([words, &[word.to_string()]].concat(), &mut trees, module);
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    self.add(words.to_vec(), module);
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, path: Vec<String>, module: &[String]) {
        let supers = path.iter().take_while(|word| *word == "super").count();
        let in_crate = match path[0].as_str() {
            "crate" => Some(path[1..].to_vec()),
            "vipswitch" if self.module == ["main"] => Some(path[1..].to_vec()),
            "super" if supers <= module.len() => {
                Some([&module[..module.len() - supers], &path[supers..]].concat())
            }
            _ => None,
        };
        self.uses.extend(in_crate.filter(|used| !used.is_empty()));
        self.paths.push(path);
    }

    /// Passes over an attribute and the item that it is about.
    fn skip_item(&mut self, trees: &mut Peekable<IntoIter<TokenTree>>, module: &[String]) {
        let mut words: Vec<String> = Vec::new();
        for tree in trees.by_ref() {
            match tree {
                TokenTree::Ident(word) => words.push(word.to_string()),
                TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                TokenTree::Group(group)
                    if group.delimiter() == Delimiter::Brace
                        && !words.contains(&"use".to_owned()) =>
                {
                    return;
                }
                _ => {}
            }
        }
        if let Some(place) = words.iter().position(|word| word == "mod") {
            let name = words[place + 1..].to_vec();
            self.test_modules.push([module, &name].concat());
        }
    }
}

fn is_cfg_test(tree: &TokenTree) -> bool {
    let text = tree.to_string().replace(' ', "");
    text.starts_with("[cfg(test") || text.starts_with("[cfg(all(test")
}

fn group(tree: Option<&TokenTree>) -> Option<TokenStream> {
    match tree {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            Some(group.stream())
        }
        _ => None,
    }
}

fn take_colons(trees: &mut Peekable<IntoIter<TokenTree>>) -> bool {
    let is_colon =
        |tree: &TokenTree| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ':');
    // A single colon begins a type: it has no path before it, so that taking it does no harm.
    trees.next_if(is_colon).is_some() && trees.next_if(is_colon).is_some()
}
