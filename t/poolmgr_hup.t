#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: SIGHUP reads the secrets anew and opens the history log by its
# name; whoever is not concerned notices nothing.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use Time::HiRes qw/ sleep time /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $p = ImsPool->new();
my $secrets = $p->dir() . '/secrets';

$p->pool('web', 100);
$p->pool('else', 100);

# roles in use: one of a secret that stays, one that will be withdrawn, one
# that will change, and an admin's

my ($stays, $goes, $changes) = map { $_ x 20 } 'a' .. 'c';
secret('stays', "wwsf $stays web");
secret('goes', "wwsf $goes web");
secret('changes', "wwsf $changes web,else");
like(auth($stays), qr/^-WRONGPASS/, 'not known before');

ok(hup(), 'reloaded');
my %c = map { $_ => $p->connect() } qw/ stays goes changes admin /;
is($c{stays}->cmd('AUTH', $stays), '+OK', 'known after');
is($c{goes}->cmd('AUTH', $goes), '+OK', 'each of them');
is($c{changes}->cmd('AUTH', $changes), '+OK', 'each');
is(auth($p->secret('wwsf')), '+OK', 'those from before still are');

ok(ref $c{$_}->cmd($p->acquire('web', "user-$_")), "$_ is used")
	for qw/ stays goes changes /;
ok(ref $c{changes}->cmd($p->acquire('else', 'user')), 'in both pools');

unlink "$secrets/goes.secret";
secret('changes', "wwsf $changes else");
like(auth($goes), qr/^\+OK/, 'nothing happens before');
ok(ref $c{goes}->cmd($p->acquire('web', 'user-2')), 'nothing at all');

ok(hup(), 'reloaded');
ok($c{goes}->closed(5), 'withdrawn: closed');
like(auth($goes), qr/^-WRONGPASS/, 'and not known any more');
ok(ref $c{stays}->cmd($p->acquire('web', 'user-3')), 'the other goes on');
like($c{changes}->cmd($p->acquire('web', 'user-4')), qr/^-DENIED/,
	'changed: not in that pool now');
ok(ref $c{changes}->cmd($p->acquire('else', 'user-4')), 'in this one');
is($c{admin}->cmd('PING'), '+PONG', 'an admin goes on');
like($p->log(), qr/\[notice\].*closed: its secret is withdrawn/, 'logged');

# another role for the same secret

secret('changes', "edge $changes else");
ok(hup(), 'reloaded');
like($c{changes}->cmd($p->acquire('else', 'user-5')), qr/^-DENIED/,
	'another role');
is(ref $c{changes}->cmd('PURGE', 'NEXT', 'else', 1), 'ARRAY', 'it counts');

# files that cannot be taken: as before

for my $bad (['nonsense', 0600, 'no role'], ["wwsf " . 'd' x 20, 0644,
	'others may read it'], ['wwsf short', 0600, 'too short'])
{
	secret('bad', $bad->[0]);
	chmod $bad->[1], "$secrets/bad.secret";
	my $n = () = $p->log() =~ /the secrets stay as they were/g;
	kill 'HUP', $p->pid();
	ok(wait_for(sub {
		my $now = () = $p->log() =~ /the secrets stay as they were/g;
		$now > $n
	}), "$bad->[2]: refused");
	like($p->log(), qr/\[error\].*bad\.secret/, 'by name');
	ok(ref $c{stays}->cmd($p->acquire('web', 'user-6')), 'as before');
	is(auth($stays), '+OK', 'all of them');
}
unlink "$secrets/bad.secret";

# the history log: moved away, as logrotate does

my $log = $p->dir() . '/history.log';
my $n = lines($log);

rename $log, "$log.1";
$p->cmd($p->acquire('web', 'between'));
ok(wait_for(sub { lines("$log.1") == $n + 1 }), 'written on until then');
ok(hup(), 'reloaded');
ok(-e $log, 'made anew');
$p->cmd($p->acquire('web', 'after'));
ok(wait_for(sub { lines($log) == 1 }), 'and written from then on');
is(lines("$log.1"), $n + 1, 'the old one is not');

# under load, many times: every command is answered

my ($asked, $answered) = (0, 0);
my $end = time() + 3;

while (time() < $end) {
	kill 'HUP', $p->pid();
	$c{stays}->send($p->acquire('web', 'load' . $asked++ % 50)) for 1 .. 20;
	ref $c{stays}->recv() and $answered++ for 1 .. 20;
}
is($answered, $asked, "$asked commands answered while it reloads");

is($p->stop(), 0, 'and stops');

done_testing();

###############################################################################

sub secret {
	my ($name, $line) = @_;

	open my $f, '>', "$secrets/$name.secret" or die $!;
	print $f "$line\n";
	close $f;
	chmod 0600, "$secrets/$name.secret";
}


sub auth {
	my ($word) = @_;

	return $p->connect()->cmd('AUTH', $word);
}


# true when it has done it

sub hup {
	my $n = () = $p->log() =~ /opened anew$/mg;

	kill 'HUP', $p->pid();

	return wait_for(sub {
		my $now = () = $p->log() =~ /opened anew$/mg;
		$now > $n
	});
}


sub lines {
	my ($file) = @_;

	open my $f, '<', $file or return 0;
	my @lines = <$f>;

	return scalar @lines;
}


sub wait_for {
	my ($check) = @_;

	my $end = time() + 20;

	while (time() < $end) {
		my $r = $check->();
		return $r if $r;
		sleep 0.02;
	}

	return;
}

###############################################################################
