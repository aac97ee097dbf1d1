//! Names as small numbers, so that a job carries 4 bytes for its queue and 4 for its type.
use std::collections::HashMap;

use crate::model::ids::Name;

/// A two-way table. A name keeps its number for ever.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Name, u32, hashbrown::DefaultHashBuilder>,
    /// `None` = a number that no name was loaded for.
    names: Vec<Option<Name>>,
    /// The name asked for last: jobs come in runs of one queue and type.
    last: u32,
}

impl Names {
    pub fn find(&self, name: &Name) -> Option<u32> {
        match self.names.get(self.last as usize) {
            Some(Some(last)) if last == name => Some(self.last),
            _ => self.numbers.get(name).copied(),
        }
    }

    /// The number of `name`, and whether it is new.
    pub fn number(&mut self, name: &Name) -> (u32, bool) {
        let (number, new) = match self.find(name) {
            Some(number) => (number, false),
            None => {
                let number = self.names.len() as u32;
                self.names.push(Some(name.clone()));
                self.numbers.insert(name.clone(), number);
                (number, true)
            }
        };
        self.last = number;
        (number, new)
    }

    /// Takes a name that was kept under `number`. False when either is taken by another.
    pub fn load(&mut self, name: Name, number: u32) -> bool {
        let at = number as usize;
        if self.names.len() <= at {
            self.names.resize(at + 1, None);
        }
        match &self.names[at] {
            Some(there) if *there != name => return false,
            _ => {}
        }
        self.names[at] = Some(name.clone());
        self.numbers.insert(name, number).is_none_or(|before| before == number)
    }

    pub fn get(&self, number: u32) -> Option<&Name> {
        self.names.get(number as usize).and_then(Option::as_ref)
    }

    /// The name of a number that was handed out.
    pub fn name(&self, number: u32) -> Name {
        self.get(number).expect("numbers of live jobs have names").clone()
    }
}
