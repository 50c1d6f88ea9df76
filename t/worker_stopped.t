#!/usr/bin/perl

# Tests for a worker that does not run for 20 seconds: what it was about to do,
# and what was sent to it meanwhile, is judged by the time at which it goes on.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(16);

use constant STOPPED => 20;

my %pools = (short => 15, long => 100);
my $dir = $t->testdir();

ims_keys($t);
ims_pool($t, size => 400, args => ['--min-expires', 1, '--delay', 8]);

for my $pool (sort keys %pools) {
    ims_poolctl($t, 'pool', 'create', $pool, 'ims.example', '--ttl',
                $pools{$pool}, '--min-expires', 1);
    ims_poolctl($t, 'import', $pool, '--range',
                "sip:$pool-[001-009]\@ims.example");
}

$t->write_file_expand('nginx.conf', ims_conf($t, min_expires => 1,
    grace => '300s',
    issuers => <<"    END",
        ims_issuer site {
            iss     https://localhost;
            aud     ims.example;
            alg     ES256;
            key     k1 $dir/site.pub.pem $dir/site.key.pem;
            pool    web short long;
            origin  http://localhost;
        }
    END
    http => <<"    END",
        ims_link_queue        256k;
        ims_ping_interval     300s;
        ims_register_timeout  300s;

        upstream deaf {
            server  127.0.0.1:8061;
        }
    END
    locations => join('', map { <<"    END" } sort keys %pools) . <<'    END'));
        location = /ims/$_ {
            ims_identity       $_ issuer=site;
            ims_identity_user  \$remote_user;
        }
    END
        location = /ims/deaf {
            ims_pass           deaf;
            ims_accept_issuer  site;
        }
    END
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, @sent);

# a lease of 15 s, one of 100 s, and a REGISTER that has been looked at and
# waits for a core that reads nothing

my $deaf = IO::Socket::INET->new(Proto => 'tcp', Listen => 5,
    LocalAddr => '127.0.0.1:' . port(8061), ReuseAddr => 1) or die "$!\n";

my @ws = map { client('web', '/ims/deaf') } 1 .. 120;
my $waiting = client('web', '/ims/deaf');
my $long = client('long');
my $second = client('short');
my $short = client('short');

$short->registered($core);
$long->registered($core);

# quickly, as what has waited for 2 s makes room again; no more at a time than
# the queue has room for, so that it is full only if nothing is taken

while (my @some = splice @ws, 0, 3) {
    $_->send($_->{ua}->register(extra => ['X-Pad: ' . 'x' x 60000]))
        for @some;
    push @sent, @some;

    last if counters()->{core_link_full};
}

cmp_ok(counters()->{core_link_full}, '>=', 1, 'the queue of a link is full');
ok(ims_wait(8, sub { counters()->{core_late} > 0 }), 'there is room again');
$waiting->send($waiting->{ua}->register());
ok(ims_wait(2, sub { forwarded($waiting) }), 'REGISTER looked at, not written');

# stopped

my $worker = worker($t);
kill 'STOP', $worker;

$short->send($short->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
$second->send($second->{ua}->register(expires => 60));
$long->send($long->{ua}->register(expires => 3600));

sleep STOPPED;

my $left = left($long);
is(left($short), 0, 'one lease is over');
ok($left > 60 && $left < 80, 'the other one is shorter by what has passed');

# that core has read what was on its way, the worker can write, and goes on

my $taken = IO::Select->new($deaf);
my $text = read_all($deaf, $taken);
kill 'CONT', $worker;
my $late = read_all($deaf, $taken);

# the expiry is cut to what is left now

my @forward;

while (($m, $link) = $core->request(@forward ? 1 : 10)) {
    push @forward, $m;
    $core->reply($link, $m, 200, 'OK');
}

my ($register) = grep { sip_header($_, 'Call-ID') eq $long->{ua}{call_id} }
    @forward;
my ($x) = $register ? sip_header($register, 'Expires') : 0;

cmp_ok($x, '>', $left - 30, 'the living lease is registered');
cmp_ok($x, '<=', $left - 1, 'for what is left of it');

# of the lease that is over nothing leaves

# (403 or nothing: the timer of the lease may be first)

my $said = $short->answer(20);
ok(!$said || $said->{status} == 403, 'MESSAGE on the one that is over: refused');
is(($short->{ws}->closed(5))[0], 1008, 'and closed');
is(($second->answer(20) // {})->{status}, 403, 'REGISTER on such: 403');
is(($second->{ws}->closed(5))[0], 1008, 'and closed');

is(scalar @forward, 1, 'nothing of them reached the core');
ok($core->silent(2), 'nor is anything to be taken back: it has run out there');

# what waited for the link is too old to leave, over this link and, half of D
# after the look, over any other

cmp_ok(length $text, '>', 100000, 'the core has read what had left before');
is(index($text . $late, $waiting->{ua}{call_id}), -1,
    'that REGISTER is not in it, nor in what came then');

my $answer = $waiting->answer(40);
like($answer && $answer->{status}, qr/^50[34]$/, 'the client is told');

kill 'TERM', $t->read_file('nginx.pid');

###############################################################################

sub client {
    my ($pool, $uri) = @_;

    return ImsClient->new(
        identity => $pool eq 'web' ? '/ims/identity' : "/ims/$pool",
        ws => { $uri ? (uri => $uri) : () });
}


sub counters { return ims_status()->{counters} }


sub forwarded {
    my ($c) = @_;

    my ($lease) = $c->{id}{lease};

    return ims_count_log($t, qr/REGISTER forwarded, lease \Q$lease\E,/);
}


# what comes over any connection to a socket, until nothing does for a while

sub read_all {
    my ($listen, $sel) = @_;

    my $text = '';

    while (my @ready = $sel->can_read(3)) {
        for my $s (@ready) {

            if ($s == $listen) {
                $sel->add($listen->accept());

            } elsif (!sysread $s, $text, 65536, length $text) {
                $sel->remove($s);
            }
        }
    }

    return $text;
}


# s that are left of a lease

sub left {
    my ($c) = @_;

    my (undef, $json) = ims_poolctl($t, 'show', $c->{id}{lease}, '--json');

    return $json->{end} > $json->{now} ? ($json->{end} - $json->{now}) / 1000
                                       : 0;
}


sub worker {
    my ($t) = @_;

    my $master = $t->read_file('nginx.pid') + 0;
    my ($pid) = `ps -o pid= --ppid $master` =~ /(\d+)/;

    return $pid;
}

###############################################################################
