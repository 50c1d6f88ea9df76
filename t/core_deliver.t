#!/usr/bin/perl

# Tests for datagrams between workers: who may send them, names of sockets
# from start to end, workers that leave.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::UNIX;
use Socket qw/ SOCK_DGRAM /;
use Time::HiRes qw/ sleep time /;

use Ims;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(20);

ims_keys($t);
ims_pool($t, size => 100);

my $dir = $t->testdir();

# a socket that nobody listens on, one that somebody does, and no sockets

mkdir "$dir/state";
my $stale = "$dir/state/0123456789abcdef.sock";
my $alive = "$dir/state/fedcba9876543210.sock";
my $file = "$dir/state/0123456789abcde.sock";

IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $stale)->close();
my $living = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $alive);
$t->write_file('state/0123456789abcde.sock', '');

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    grace => '10m'));
$t->run();

###############################################################################

ok(!-e $stale, 'name without a socket removed');
ok(-e $alive, 'name with one kept');
ok(-e $file, 'other files kept');

my @own;
ims_wait(10, sub { (@own = own()) == 2 });
is(scalar @own, 2, 'a socket a worker');
is(join(',', map { sprintf '%o', (stat $_)[2] & 07777 } @own), '600,600',
    'for nobody else');

# not from a worker

my $before = counters();

my $n = 0;
for my $to (@own) {
    my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $to);
    for my $text ('', 'x', "\1\1" . "\0" x 110, "\1\2" . "\0" x 200,
                  "\2" . "\0" x 111, random(112), random(5000),
                  random(69000), random(100000))
    {
        $n++ if defined $s->send($text);
    }
}

is($n, 18, 'sent');
ok(ims_wait(3, sub {
    counters()->{deliver_bad} - $before->{deliver_bad} == $n;
}), 'all refused');
is(counters()->{deliver_received}, $before->{deliver_received},
    'and none taken');

# a flood does not keep a worker from its work

my $pid = fork() // die "fork: $!\n";
if ($pid == 0) {
    my @s = map { IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $_) } @own;
    my $noise = random(1000);
    my $end = time() + 2;
    while (time() < $end) {
        $_->send($noise) for @s;
    }
    POSIX::_exit(0);
}

my $core = ImsCore->new(port(8060));
my ($ws, $ua) = client();
$ws->send($ua->register());
my ($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK');
is(status($ws), 200, 'served in a flood');
waitpid $pid, 0;

# large answers cross as well as small ones

my ($crossed, $answered) = (0, 0);

for (1 .. 30) {
    my $was = counters()->{deliver_received};

    ($ws, $ua) = client();
    $ws->send($ua->register());
    ($m, $link) = $core->request() or last;

    my $other = $core->connect(port(8070));
    $core->reply($other, $m, 200, 'OK', body => 'x' x 50000,
        extra => ['Content-Type: text/plain']);

    my $text = $ws->recv(5) // last;
    $answered++ if length $text > 50000;
    $crossed++ if counters()->{deliver_received} > $was;

    $core->close($other);
    $ws->close();

    last if $_ >= 4 && $crossed >= 2;
}

cmp_ok($crossed, '>=', 2, 'large answers delivered');
cmp_ok($answered, '>=', $crossed, 'and whole');

# a worker that leaves keeps its socket as long as it has a flow

($ws, $ua) = client();
$ws->send($ua->register());
($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK');
is(status($ws), 200, 'registered');

my $idle = $core->connect(port(8070));

$t->reload();
ok(ims_wait_log($t, qr/exited with code 0/), 'the idle one is gone');
is(scalar own(), 3, 'the other one has its name');

$ws->send($ua->register());
($m, $link) = $core->request();
my $other = $core->connect(port(8070));
$core->reply($other, $m, 200, 'OK');
is(status($ws), 200, 'answer through a new worker to the old one');

$ws->send($ua->register(expires => 0));
($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK');
is(status($ws), 200, 'and over its own link');

$ws->close();
ok(ims_wait_log($t, qr/exited with code 0/, count => 2, seconds => 12),
    'gone with its last flow');
is(scalar own(), 2, 'and its name too');

# links of the core to those that left were closed, not cut

$t->stop();
is(scalar own(), 0, 'no names after the end');
ok(-e $alive, 'but that of others');

###############################################################################

sub own { return grep { $_ ne $alive && -S } glob "$dir/state/*.sock" }


sub random {
    my ($length) = @_;

    return join '', map { chr rand 256 } 1 .. $length;
}


my $users;

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

    return $answer ? $answer->{status} : 0;
}


sub counters { return ims_status()->{counters} }

###############################################################################
