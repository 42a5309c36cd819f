//! A permit is lent for one request: it can be neither copied nor kept.

use kista::gate::Permit;

fn keep(permit: &Permit<'_>, kept: &mut Vec<Permit<'static>>) {
    kept.push(permit.clone());
}

fn main() {
    let _keep = keep;
}
