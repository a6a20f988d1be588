//! Tests of the runtime: a roster of scripted cores on a world in memory whose disk answers on
//! command, on one paused thread. Messages carry the steps that a core takes.

mod balance;
mod deadlines;
mod events;
mod gate;
mod inbox;
mod inspection;
mod kit;
mod mesh;
mod moves;
mod panics;
mod passivation;
mod quarantine;
mod replicas;
mod restart;
mod rules;
mod schemas;
mod threads;
mod world;
