//! Registers of a device as a person or a test has them: any, from any number of reads.

use std::collections::BTreeMap;

use meterlake_config::device_profile::Function;

use super::decode::Block;
use super::planner::BlockRequest;

/// Registers by function code and address, counted from 0 as on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    words: BTreeMap<(Function, u16), u16>,
}

impl Image {
    /// Without any register.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts words at an address and the ones behind it; what is there is replaced, what is beyond the last address that
    /// exists is left out.
    pub fn set(&mut self, function: Function, address: u16, words: &[u16]) {
        for (address, word) in (address..=u16::MAX).zip(words) {
            self.words.insert((function, address), *word);
        }
    }

    /// Puts the words of a block.
    pub fn add(&mut self, block: &Block) {
        self.set(block.request.function, block.request.range.first, &block.words);
    }

    /// The word of one register.
    pub fn get(&self, function: Function, address: u16) -> Option<u16> {
        self.words.get(&(function, address)).copied()
    }

    /// The words of some registers; `None` when one of them is not there.
    pub fn words(&self, function: Function, address: u16, registers: u16) -> Option<Vec<u16>> {
        (0..registers).map(|behind| self.get(function, address.checked_add(behind)?)).collect()
    }

    /// The block that answers a request; `None` when one of its registers is not there.
    pub fn block(&self, request: BlockRequest) -> Option<Block> {
        let words = self.words(request.function, request.range.first, request.registers())?;
        Some(Block { request, words })
    }

    /// As [`Self::block`]; registers that are not there are 0.
    pub fn block_or_zero(&self, request: BlockRequest) -> Block {
        let word = |address| self.get(request.function, address).unwrap_or(0);
        Block { request, words: (request.range.first..=request.range.last).map(word).collect() }
    }

    /// Every register with its word, by function code and address.
    pub fn registers(&self) -> impl Iterator<Item = (Function, u16, u16)> {
        self.words.iter().map(|(&(function, address), &word)| (function, address, word))
    }

    /// Registers that are there side by side, of one function code, as their first address and their words.
    pub fn runs(&self) -> Vec<(Function, u16, Vec<u16>)> {
        let mut runs: Vec<(Function, u16, Vec<u16>)> = Vec::new();
        for (function, address, word) in self.registers() {
            match runs.last_mut() {
                Some((of, first, words))
                    if *of == function && usize::from(*first) + words.len() == usize::from(address) =>
                {
                    words.push(word);
                }
                _ => runs.push((function, address, vec![word])),
            }
        }
        runs
    }

    /// Whether there is no register.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

impl FromIterator<Block> for Image {
    fn from_iter<T: IntoIterator<Item = Block>>(blocks: T) -> Self {
        let mut image = Self::new();
        for block in blocks {
            image.add(&block);
        }
        image
    }
}
