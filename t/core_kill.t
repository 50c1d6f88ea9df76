#!/usr/bin/perl

# Tests for a worker that is killed between REGISTER and its answer.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::UNIX;
use Socket qw/ SOCK_DGRAM /;

use Ims;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('ss')->plan(8);

$t->todo_alerts();      # nginx has one for a killed worker

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

my $users = 0;
my $core = ImsCore->new(port(8060));
my ($ws, $ua, $m, $link);

# a worker dies between REGISTER and 200

my $before = counters();

my $dead;
for (1 .. 20) {
    ($ws, $ua) = client();
    $ws->send($ua->register());
    ($m, $link) = $core->request();
    $dead = ims_owner($link);
    last if $dead;
}
kill 'KILL', $dead;
is(($ws->closed(5))[0], 1006, 'its clients see it');
ok(ims_wait_log($t, qr/worker process $dead exited on signal 9/), 'killed');

my $other = $core->connect(port(8070));
for (1 .. 3) {
    $core->reply($other, $m, 200, 'OK');
}
ok(ims_wait(3, sub {
    counters()->{response_unmatched} - $before->{response_unmatched} >= 3
}), 'answers to a dead worker are dropped');
ok($core->silent(0.2), 'and nothing else happens');

for (1 .. 4) {
    ($ws, $ua) = client();
    $ws->send($ua->register());
    ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK');
    status($ws) == 200 or last;
}
is($ws->{last}, 200, 'served by those that live, and the one that followed');

# the name of the dead worker's socket goes with the next reload

my $dir = $t->testdir();
my @names = glob "$dir/state/*.sock";
is(scalar @names, 3, 'three names of sockets');

$t->reload();
ok(ims_wait(8, sub { (() = glob "$dir/state/*.sock") >= 2
    && !grep { -e && dead($_) } @names }), 'the dead one is removed');

is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 1, 'one alert, of the kill');

###############################################################################

# a WebSocket with a user of its own

sub client {
    my $name = 'user' . ++$users;
    my $id = ims_identity(user => $name)->{json} or die "no identity\n";

    my $c = ImsWs->new(port => port(8080), origin => 'http://localhost');
    my $sip = ImsSip->new(aor => $id->{impu}, token => $id->{token});

    return ($c, $sip);
}


sub status {
    my ($c) = @_;

    my $answer = sip_parse($c->recv(5) // '');
    $c->{last} = $answer ? $answer->{status} : 0;

    return $c->{last};
}


sub counters { return ims_status()->{counters} }


sub dead {
    my ($name) = @_;

    my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $name);

    return !$s;
}

###############################################################################
