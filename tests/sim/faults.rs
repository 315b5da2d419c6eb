//! What goes wrong, and how it is put right at the end.

use edge_core::consensus::{Change, Input, MemberId};

use super::boards::BOARD_END;
use super::net::Weather;
use super::world::{Asker, Event, What, World, info};

/// After the last fault everything must work again within this time.
const MENDING: u64 = 1_500_000;

/// And be the same everywhere after so much more.
const SETTLING: u64 = 500_000;

impl World {
    pub(super) fn fault(&mut self) {
        if self.healing {
            return;
        }
        let next = self.chance.range(20_000, 350_000);
        self.after(next, Event::Fault);
        let running = self.running();
        let any = self.chance.pick(&running);
        let leader = self.chance.pick(&self.leaders()).or(any);
        let one = if self.chance.permille(500) { leader } else { any };
        let Some(one) = one else { return };
        match self.chance.range(0, 19) {
            0..3 => self.kill(one),
            3 => running.iter().for_each(|id| self.kill(*id)),
            4 => self.pause(one),
            5..7 => self.cut(one),
            7 => self.cuts.heal(),
            8..10 => self.false_will(),
            10..12 => self.hand_over(leader),
            12..16 => self.change_members(leader),
            16 => self.weather = Weather::any(&mut self.chance),
            17 => self.harm_board(),
            18 => self.commit_somewhere(one),
            _ => self.cut(BOARD_END + self.now % 3),
        }
    }

    fn ends(&self) -> Vec<u64> {
        let boards = (0..self.boards.len() as u64).map(|board| BOARD_END + board);
        self.servers.keys().copied().chain(boards).collect()
    }

    fn kill(&mut self, id: MemberId) {
        let led = self.leaders().contains(&id);
        self.crash(id);
        let back = self.chance.range(5_000, 800_000);
        self.after(back, Event::Restart(id));
        // Two brokers see its last will, mostly.
        if led && self.chance.permille(700) {
            for other in self.running() {
                let delay = self.chance.range(200, 8000);
                self.after(delay, Event::Gone { id: other, member: id });
            }
        }
    }

    fn pause(&mut self, id: MemberId) {
        let until = self.now + self.chance.range(20_000, 700_000);
        self.note(|| format!("pause {id} until {until}"));
        if let Some(server) = self.servers.get_mut(&id) {
            server.paused_until = until;
        }
    }

    fn cut(&mut self, one: u64) {
        let ends = self.ends();
        match self.chance.range(0, 3) {
            0 => self.cuts.isolate(one, &ends),
            1 => {
                let side: Vec<u64> =
                    ends.iter().copied().filter(|_| self.chance.permille(500)).collect();
                self.cuts.split(&side, &ends);
            }
            2 => {
                let deaf = self.chance.permille(500);
                for other in ends.iter().filter(|end| **end != one) {
                    let (from, to) = if deaf { (*other, one) } else { (one, *other) };
                    self.cuts.one_way(from, to);
                }
            }
            _ => {
                if let Some(other) = self.chance.pick(&ends) {
                    self.cuts.one_way(one, other);
                }
            }
        }
        self.note(|| format!("cut around {one}"));
        let mend = self.chance.range(50_000, 800_000);
        self.after(mend, Event::Mend);
    }

    fn false_will(&mut self) {
        let Some(member) = self.chance.pick(&self.leaders()) else { return };
        for id in self.running() {
            if self.chance.permille(600) {
                let delay = self.chance.range(0, 5000);
                self.after(delay, Event::Gone { id, member });
            }
        }
    }

    fn hand_over(&mut self, leader: Option<MemberId>) {
        let to = self.chance.range(0, 5);
        let Some(id) = leader else { return };
        let run = self.servers.get_mut(&id).and_then(|server| server.run.as_mut());
        if let Some(run) = run {
            run.input(Input::Transfer { to: (to != 0).then_some(to) });
            self.collect(id);
        }
    }

    pub(super) fn grow(&mut self) {
        let leader = self.chance.pick(&self.leaders());
        let members = leader.and_then(|id| self.servers[&id].run.as_ref());
        let members = members.map(|run| run.standing.members.clone()).unwrap_or_default();
        if let Some(next) = (1..=3).find(|id| !members.contains(*id)) {
            self.change_member(leader, next);
        }
    }

    fn change_members(&mut self, leader: Option<MemberId>) {
        let id = self.chance.range(1, 5);
        self.change_member(leader, id);
    }

    fn change_member(&mut self, leader: Option<MemberId>, id: MemberId) {
        let ticket = self.ask(Asker::Admin, What::List);
        let voter = !self.chance.permille(200);
        let Some(leader) = leader else { return };
        let Some(run) = self.servers.get_mut(&leader).and_then(|server| server.run.as_mut()) else {
            return;
        };
        let members = &run.standing.members;
        let change = match members.contains(id) {
            true if members.learners().contains(&id) => Change::Promote { id },
            true => Change::Remove { id },
            false => Change::Add { info: info(id), voter },
        };
        run.change(ticket, change);
        self.collect(leader);
    }

    fn harm_board(&mut self) {
        let number = self.chance.range(0, 2) as usize;
        if self.chance.permille(500) {
            self.boards[number].paused_until = self.now + self.chance.range(50_000, 900_000);
        } else if self.boards[number].up {
            self.boards[number].crash();
            let back = self.chance.range(10_000, 600_000);
            self.after(back, Event::BoardBack(number));
        }
    }

    fn commit_somewhere(&mut self, id: MemberId) {
        if let Some(run) = self.servers.get_mut(&id).and_then(|server| server.run.as_mut()) {
            run.commit();
        }
    }

    /// No more faults: everything that fell is put up again.
    pub(super) fn heal(&mut self) {
        self.note(|| "heal".to_owned());
        (self.healing, self.healed_at) = (true, self.now);
        self.cuts.heal();
        self.weather = Weather::fair();
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            if let Some(server) = self.servers.get_mut(&id) {
                server.paused_until = server.paused_until.min(self.now);
            }
            let delay = self.chance.range(0, 50_000);
            self.after(delay, Event::Restart(id));
        }
        for number in 0..self.boards.len() {
            self.boards[number].paused_until = 0;
            if !self.boards[number].up {
                self.board_back(number);
            }
        }
        self.after(MENDING, Event::Judge);
    }

    /// First that everything works again, then that everything is the same.
    pub(super) fn judge(&mut self) {
        if self.checks.quiet {
            self.done = true;
            return self.judge_sameness();
        }
        self.judge_progress();
        self.checks.quiet = true;
        self.after(SETTLING, Event::Judge);
    }
}
