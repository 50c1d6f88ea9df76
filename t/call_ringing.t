#!/usr/bin/perl

# Tests for calls that ring and ring: after three minutes they are cancelled
# (RFC 3261 Timer C), and answered 408 if that is of no avail, in both
# directions. The clock is put forward meanwhile.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

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
    ->has_daemon('cc')->plan(18);

my $dir = $t->testdir();

ims_keys($t);
ims_pool($t);

system('cc', '-shared', '-fPIC', '-O2', '-o', "$dir/clock_jump.so",
       "$FindBin::Bin/lib/clock_jump.c") == 0 or die "cc failed\n";

$t->write_file_expand('nginx.conf', ims_conf($t));
$t->write_file('jump', '0');

{
    local $ENV{CLOCK_JUMP} = "$dir/jump";
    local $ENV{LD_PRELOAD} = join ' ', grep { defined } $ENV{LD_PRELOAD},
        "$dir/clock_jump.so";

    $t->run();
}

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));
my $n = 0;
my ($m, $a);

my ($c, $d, $looks) = map { ImsClient->new(user => $_) } qw/ alice bob x /;
ImsCall::registered($_, $core) for $c, $d, $looks;

my $calls = ImsCall->calls($c, $core, until => 'ringing');
my $called = ImsCall->called($d, $core, $in, until => 'ringing');

jump(150);
ok($core->silent(0.3) && !defined $d->{ws}->recv(0.1), 'they ring');

# each 1xx is good for another three minutes

is($calls->far_reply(183, 'Session Progress')->{status}, 183, 'and go on');
is($called->reply(180, 'Ringing')->{status}, 180, 'both of them');

jump(150 + 150);
ok($core->silent(0.3) && !defined $d->{ws}->recv(0.1), 'they ring still');

jump(150 + 190);
($m) = $core->request();
is($m ? $m->{method} : 'nothing', 'CANCEL', 'cancelled at the core');
is(sip_header($m, 'Via'), sip_header($calls->{invite}, 'Via'), 'that call');
$m = $d->answer();
is($m ? $m->{method} : 'nothing', 'CANCEL', 'cancelled at the client');
is(sip_header($m, 'Via'), (sip_headers($called->{invite}, 'Via'))[0],
    'that call');
ok(!defined $c->{ws}->recv(0.2), 'the caller is told when it has ended');

# the one that obeys

$d->send(sip_reply($m, 200, 'OK'));
is($called->reply(487, 'Request Terminated')->{status}, 487,
    'the client ends it');
is($d->answer()->{method}, 'ACK', 'and has its ACK');

# and the one that does not

jump(150 + 190 + 20);
ok(!defined $c->{ws}->recv(0.3), 'the core has some time');
jump(150 + 190 + 40);
$a = $c->answer();
is($a ? $a->{status} : 'nothing', 408, 'then it is 408');
like(sip_header($a, 'CSeq'), qr/INVITE$/, 'for the INVITE');

$core->reply($calls->{link}, $calls->{invite}, 487, 'Request Terminated');
($m) = $core->request();
is($m ? $m->{method} : 'nothing', 'ACK', 'a late 487 has its ACK');
ok(!defined $c->{ws}->recv(0.2), 'and goes no further');

is(ims_status()->{counters}{core_timeout}, 1, 'counted');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# the clock is so many seconds ahead, and a message makes nginx look at it

sub jump {
    my ($seconds) = @_;

    open my $f, '>', "$dir/jump.new" or die "jump: $!\n";
    print $f $seconds;
    close $f;
    rename "$dir/jump.new", "$dir/jump";

    my $id = 'look' . ++$n;
    my @other;

    $looks->send($looks->{ua}->request('MESSAGE', call_id => $id,
        to => 'sip:bob@ims.example'));

    while (my ($m, $link) = $core->request()) {
        if (sip_header($m, 'Call-ID') eq $id) {
            $core->reply($link, $m, 200, 'OK');
            last;
        }
        push @other, [$m, $link];
    }

    die "nginx does not look\n" if $looks->answer()->{status} != 200;

    # the timer that is due now

    push @other, [$core->request(0.3)];
    unshift @{$core->{queue}}, grep { @$_ } @other;
}

###############################################################################
