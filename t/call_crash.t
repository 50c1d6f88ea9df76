#!/usr/bin/perl

# Tests for calls whose worker is killed: its flows get 430 at once, others
# notice nothing, and who comes back finds its dialogs.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('mdb_stat')->plan(15);

$t->todo_alerts();      # nginx has one for a killed worker

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3,
    grace => '10m'));
$t->run();

###############################################################################

my $dir = $t->testdir();
my $core = ImsCore->new(port(8060));
my (@clients, %dialog);

for my $n (1 .. 9) {
    my $c = ImsClient->new(user => "user$n");
    ImsCall::registered($c, $core);
    $dialog{$c} = ImsCall->calls($c, $core);
    push @clients, $c;
}

my $master = $t->read_file('nginx.pid') + 0;

# the worker of the first client: another one may have none

my ($victim) =
    $t->read_file('error.log') =~ /(\d+)#\d+: \*\d+ ims session \d+ opened/;

kill 'KILL', $victim;
ok(ims_wait_log($t, qr/worker process $victim exited on signal 9/), 'killed');
ok(ims_wait(5, sub { workers() == 3 }), 'and replaced');

my @lost = grep { !$_->alive() } @clients;
my @kept = grep { $_->{ws} && !gone($_) } @clients;

cmp_ok(scalar @lost, '>', 0, 'clients lost: ' . @lost);

my $in = $core->connect(port(8070));
my ($m, $link, $r);

# initial requests for them

my (@took, %got);
for my $c (@lost) {
    my $start = time();
    $core->send($in, ImsCall::core_request($c, 'MESSAGE'));
    ($r) = $core->request(3);
    $got{$r ? $r->{status} : 'nothing'}++;
    push @took, time() - $start;
}
is_deeply(\%got, { 430 => scalar @lost }, '430 for each of them');
cmp_ok((sort { $a <=> $b } @took)[@took / 2], '<', 1.5, 'at once');

# the others

my ($served, $told, $called) = (0, 0, 0);
for my $c (@kept) {
    $core->send($in, ImsCall::core_request($c, 'MESSAGE'));
    $m = $c->answer();
    $c->send(sip_reply($m, 200, 'OK'));
    ($r) = $core->request();
    $served++ if $r && $r->{status} == 200;

    $c->send($dialog{$c}->from_client('INFO'));
    ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK');
    $told++ if $c->answer()->{status} == 200;

    $core->send($in, $dialog{$c}->from_core('INFO'));
    $m = $c->answer();
    $c->send(sip_reply($m, 200, 'OK'));
    ($r) = $core->request();
    $called++ if $r && $r->{status} == 200;
}
is($served, @kept, 'the others are served');
is($told, @kept, 'their dialogs go on');
is($called, @kept, 'in both directions');

# who comes back, while the far side ends the call

my ($same, $ended, $free) = (0, 0, 0);
for my $c (@lost) {
    my $path = $c->{path};

    $core->send($in, $dialog{$c}->from_core('BYE'));
    $c->connect();
    ImsCall::registered($c, $core);
    $same++ if $c->{path} eq $path;

    $m = $c->answer();
    next unless $m && $m->{method} eq 'BYE';
    $c->send(sip_reply($m, 200, 'OK'));
    ($r) = $core->request();
    $ended++ if $r && $r->{status} == 200;

    $core->send($in, ImsCall::core_request($c, 'MESSAGE'));
    $m = $c->answer();
    $c->send(sip_reply($m, 200, 'OK'));
    ($r) = $core->request();
    $free++ if $r && $r->{status} == 200;
}
is($same, @lost, 'those who come back have their flow');
is($ended, @lost, 'and the BYE that waited for them');
is($free, @lost, 'and can be called again');

is(ims_status()->{flows}, 9, 'no flow too many');

# the pool manager looks every 10 s

my ($living) = workers();
ok(grep({ $_ == $living } readers()), 'workers read the pool');
ok(ims_wait(25, sub { !grep { $_ == $victim } readers() }),
    'the slot of the one killed is free again');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 1, 'one alert, the kill');

###############################################################################

sub workers {
    open my $f, '<', "/proc/$master/task/$master/children" or return ();

    return split ' ', <$f> // '';
}


# processes that LMDB has in its table

sub readers {
    my ($status, $out) = ims_run('mdb_stat', '-r', "$dir/pool/current");

    return $out =~ /^\s*(\d+)\s+[0-9a-f]+\s/mg;
}


sub gone { return $_[0]{ws}{eof} || $_[0]{ws}{close} }

###############################################################################
