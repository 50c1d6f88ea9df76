#!/usr/bin/perl

# Tests for reload and quit with live flows: they stay where they are, are
# served as before by workers that no new one comes to, and those leave with
# the last of them.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('ss')->plan(38);

ims_keys($t);
ims_pool($t, size => 100);

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '4s'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, $answer);

# flows in both workers, one of them with a REGISTER on its way

my @old;
ims_wait(8, sub { (@old = workers($t)) == 2 });
is(@old, 2, 'two workers');

my @flows = two_workers(8);
$_->registered($core) for @flows;
my %path = map { $_ => path($_, $core) } @flows;

my $busy = $flows[0];
$busy->send($busy->{ua}->register());
my ($asked, $way) = $core->request();

reload($t, 1);

is(alive(@old), 2, 'the old workers stay');
is(scalar(grep { $_->alive() } @flows), 8, 'and their flows');

$core->reply($way, $asked, 200, 'OK');
is($busy->answer()->{status}, 200, 'a REGISTER under way is answered');

# a refresh goes out from the old worker and is answered

is(join(' ', map { (($_->registered($core))[2] // {})->{status} // 0 }
         @flows), join(' ', (200) x 8), 'refreshed');

# a core that answers elsewhere reaches a new worker, which hands it on

my $other = $core->connect(port(8070));
my @status;

for my $c (@flows) {
    $c->send($c->{ua}->register());
    ($m) = $core->request();
    $core->reply($other, $m, 200, 'OK');
    push @status, ($c->answer() // {})->{status} // 0;
}
is("@status", join(' ', (200) x 8), 'answered through new workers');
is(path($flows[1], $core), $path{$flows[1]}, 'with the same Path');

# new ones are served by new workers

my $new = ImsClient->new();
$new->registered($core);
ok(!(grep { $_ == (owner($new) // 0) } @old), 'new flows in new workers');

# the core's dispatcher gets its answer from new ones, too

$core->send($other, options('sip:edge.example', 1));
my ($pong) = $core->request();
is($pong && $pong->{status}, 200, 'OPTIONS of the core');

# a lease that ends is noticed in an old worker

my $c = pop @flows;
ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
is(($c->{ws}->closed(2))[0], 1008, 'revoked: closed');
taken_back($c, 'revoked');

# a new token, and a new connection of the same device: from old to new

$c = pop @flows;
my $before = $c->{ws};
$c->connect();
($m, undef, $answer) = $c->registered($core);
is($answer->{status}, 200, 'taken over from an old worker');
is(sip_header($m, 'Path'), $path{$c}, 'the same slot');
is(($before->closed(3))[0], 1008, 'the old connection is closed');
ok(!(grep { $_ == (owner($c) // 0) } @old), 'now with a new worker');
push @flows, $c;

# a flow that is lost in an old worker is taken back

$c = shift @flows;
$c->{ws}->drop();
taken_back($c, 'lost');

# reload after reload: each generation keeps what it has

my @generation = ([@old, @flows]);

for my $n (2 .. 5) {
    my $c = ImsClient->new();
    $c->registered($core);
    push @flows, $c;
    reload($t, $n);
}

is(scalar(grep { $_->alive() } @flows), @flows, 'flows of five generations');
is(join(' ', map { (($_->registered($core))[2] // {})->{status} // 0 }
         @flows), join(' ', (200) x @flows), 'all refreshed');

# workers without a flow are gone, and the first leave with their last flow

my %owners = map { owner($_) => 1 } @flows, $new;
ok(ims_wait(10, sub { workers($t) == 2 + keys %owners }),
    'idle workers left');

my @mine = grep { my $c = $_; grep { $_ == owner($c) } @old } @flows;
cmp_ok(@mine, '>=', 1, 'flows of the first generation');
is(alive(map { owner($_) } @mine), scalar(keys %{{
    map { owner($_) => 1 } @mine }}), 'whose workers live');

deregister($_) for @mine;
is(join(' ', map { ($_->{ws}->close(1000))[0] } @mine),
    join(' ', (1000) x @mine), 'they go');
sleep 0.3;
ok(alive(@old), 'their workers wait for the good-bye of the core');
ok(ims_wait(4, sub { $core->silent(0.05) && !alive(@old) }),
    'and leave when they have it');
is(join(' ', map { ims_count_log($t, qr/process $_ exited with code 0/) }
         @old), '1 1', 'in good order');

my %gone = map { $_ => 1 } @mine;
@flows = grep { !$gone{$_} } @flows;
is(scalar(grep { $_->alive() } @flows), @flows, 'the others stay');

# nothing is left behind

my $dir = $t->testdir();
reload($t, 6);
ok(ims_wait(8, sub {
    my $names = () = glob "$dir/state/*.sock";
    $names <= workers($t);
}), 'no socket of a worker that left');
$new->registered($core);

# quit: nobody follows, the flows are told

@flows = grep { $_->alive() } @flows;
my @left = workers($t);
my $start = time();
my $master = $t->read_file('nginx.pid') + 0;
kill 'QUIT', $master;

is(scalar(grep { $_->alive() } @flows[0, 1]), 2, 'not at once');
is(join(' ', map { ($_->{ws}->closed(10))[0] // 'open' } @flows),
    join(' ', (1001) x @flows), 'quit: 1001');
my $took = time() - $start;
ok($took > 2 && $took < 20, 'after a look for workers that follow');
ok(ims_wait(10, sub { !alive(@left) }), 'workers leave');
is(ims_count_log($t, qr/exited on signal/), 0, 'by themselves');
cmp_ok(time() - $start, '<', 40, 'in time');
ok(ims_wait(5, sub { !-e "$dir/nginx.pid" }), 'and the master');
is(scalar(() = glob "$dir/state/*.sock"), 0, 'no socket is left');

# started again: what was registered is taken back, since nobody came

ims_left($t, $master);
$t->run();

my %bound = map { '<' . $_->{ua}->contact() . '>;expires=0' => 1 } @flows;
my $n = keys %bound;

while (keys %bound and ($m, $link) = $core->request(6)) {
    delete $bound{sip_header($m, 'Contact')};
    $core->reply($link, $m, 200, 'OK', contact => '');
}
is(keys %bound, 0, "$n registrations taken back by the next start");

# and a flow goes on, if its client comes back in time: there is more of it now,
# since a stop and a start take what the machine's load makes of them

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '60s'));

$c = ImsClient->new();
$c->registered($core);
my $path = path($c, $core);
@left = workers($t);
$master = $t->read_file('nginx.pid') + 0;
kill 'QUIT', $master;
$c->{ws}->closed(10);
ims_wait(10, sub { $core->silent(0.1) && !alive(@left) });
ims_left($t, $master);
$t->run();
$c->connect();
($m, undef, $answer) = $c->registered($core);
is($answer->{status}, 200, 'back after a restart');
is(sip_header($m, 'Path'), $path, 'the same slot');

###############################################################################

# HUP, and the new workers are there

sub reload {
    my ($t, $n) = @_;

    my %was = map { $_ => 1 } workers($t);

    $t->reload();
    ims_wait(8, sub { (grep { !$was{$_} } workers($t)) == 2 })
        or die "no new workers\n";
    ims_wait_log($t, qr/gracefully shutting down/, count => 2 * $n);
    sleep 0.2;
}


# process ids of all workers of the test's nginx

sub workers {
    my ($t) = @_;

    my $master = eval { $t->read_file('nginx.pid') + 0 } or return ();
    my @pids;

    for my $dir (glob "/proc/[0-9]*") {
        open my $f, '<', "$dir/stat" or next;
        my ($pid, $state, $ppid) = <$f> =~ /^(\d+) \(.*\) (\S) (\d+)/s;
        push @pids, $pid if $ppid == $master && $state ne 'Z';
    }

    return @pids;
}


sub alive {
    my %seen;

    return scalar grep { !$seen{$_}++ && kill 0, $_ } @_;
}


# so many clients, of both workers: whose connections are whose is up to the
# kernel, and on a busy machine one may get many

sub two_workers {
    my ($n) = @_;

    my (@clients, %of);

    for (1 .. 60) {
        my $c = ImsClient->new();
        my $worker = owner($c) // next;

        push @{$of{$worker}}, $c;
        push @clients, $c;
        last if @clients >= $n && keys %of == 2;
    }

    die "all clients are with one worker\n" if keys %of != 2;

    my ($few) = sort { @{$of{$a}} <=> @{$of{$b}} } keys %of;
    my @take = ($of{$few}[0],
                (grep { $_ != $of{$few}[0] } @clients)[0 .. $n - 2]);
    my %take = map { $_ => 1 } @take;

    # (not registered: nobody is told that they go)

    $_->{ws}->drop() for grep { !$take{$_} } @clients;

    return @take;
}


# the worker that serves a client

sub owner {
    return ims_owner($_[0]{ws}{s});
}


sub path {
    my ($c, $core) = @_;

    return sip_header(($c->registered($core))[0], 'Path');
}


sub deregister {
    my ($c) = @_;

    $c->send($c->{ua}->register(expires => 0));
    my ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK', contact => '');

    return $c->answer();
}


sub taken_back {
    my ($c, $name) = @_;

    my ($m, $link) = $core->request(8);

    is($m && sip_header($m, 'Contact'),
        '<' . $c->{ua}->contact() . '>;expires=0', "$name: taken back");
    $core->reply($link, $m, 200, 'OK', contact => '') if $m;
}


sub options {
    my ($uri, $cseq) = @_;

    return "OPTIONS $uri SIP/2.0\r\n"
        . "Via: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bKping$cseq\r\n"
        . "Max-Forwards: 70\r\nFrom: <sip:core\@x>;tag=c\r\n"
        . "To: <$uri>\r\nCall-ID: ping$cseq\r\nCSeq: $cseq OPTIONS\r\n"
        . "Content-Length: 0\r\n\r\n";
}

###############################################################################
